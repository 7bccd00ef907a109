/**
 * The events of a worker's sockets. A connection begins as a Greeting and becomes a Session when its HELLO is accepted;
 * the events of a socket go to the one of the two that owns it.
 */
import { soleAckId } from '../../protocol/ack.js'
import type { CloseName } from '../../protocol/close-codes.js'
import { readFrames } from '../../protocol/decode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import { WireLimits } from '../../protocol/limits.js'
import type { Clock } from '../clock.js'
import type { Logger } from '../observe/log.js'
import type { Admission } from './admission/admission.js'
import { Greeting, type GreetingResult, type Greetings } from './admission/greeting.js'
import type { Handshake } from './admission/handshake.js'
import { closeSocket, type Effects } from './delivery/effects.js'
import type { Groups } from './groups/groups.js'
import type { WorkerMetrics } from './metrics.js'
import { Session } from './session/session.js'
import type { Socket, SocketHandlers } from './socket/socket.js'
import type { Turns } from './turns.js'

const MESSAGE_BYTES_MAX = WireLimits.DEVICE_MESSAGE_BYTES_MAX.value

const RECEIVED = { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX } as const

export interface ConnectionsParts {
  clock: Clock
  log: Logger
  turns: Turns
  admission: Admission
  greetings: Greetings
  handshake: Handshake
  effects: Effects
  groups: Groups
  metrics: WorkerMetrics
  /** Most unknown frames of a connection before its HELLO. */
  skippedFramesMax: number
  onError: (task: string, error: unknown) => void
}

export class Connections implements SocketHandlers {
  constructor(private readonly parts: ConnectionsParts) {}

  // ---- events of sockets ----------------------------------------------------------------------

  admit(address: string): number | null {
    const { admission, clock, turns, metrics } = this.parts
    const refusal = admission.admit(address, { ms: clock.now(), tick: turns.now.tick })
    if (refusal === null) return null
    metrics.refused(refusal.reason)
    return refusal.retryAfterSeconds
  }

  distrusted(peer: string): void {
    const { metrics, log } = this.parts
    metrics.refused('distrusted')
    // Logged once only: the peer may be an attacker, or a load balancer that is missing in the settings.
    if (metrics.refusals.get('distrusted') === 1) {
      log.warn({ peer }, 'refused: a peer that is not in transport.proxyProtocolFrom sent a PROXY header')
    }
  }

  opened(socket: Socket): void {
    const { admission, greetings, turns, skippedFramesMax } = this.parts
    admission.opened(socket.address)
    const greeting = new Greeting(socket, turns.now.tick, skippedFramesMax)
    socket.owner = greeting
    greetings.add(greeting)
  }

  message(socket: Socket, bytes: Uint8Array, isBinary: boolean): void {
    const { metrics, turns, onError } = this.parts
    metrics.bytesReceived += bytes.length
    turns.enter()
    try {
      const session = isBinary && socket.owner instanceof Session ? socket.owner : null
      const id = session && soleAckId(bytes)
      if (session && id !== null) session.ack(id, turns.now)
      else if (session && bytes.length === 0) session.emptyMessage(turns.now)
      else this.read(socket, bytes, isBinary)
    } catch (error) {
      onError('message', error)
      this.close(socket, 'internal')
    } finally {
      turns.leave()
    }
  }

  drained(socket: Socket): void {
    if (socket.owner instanceof Session) this.parts.groups.drained(socket.owner)
  }

  closed(socket: Socket): void {
    const { admission, greetings, effects, metrics, turns } = this.parts
    admission.closed(socket.address)
    const { owner } = socket
    turns.run('close', () => {
      if (owner instanceof Session) effects.endSession(owner, 'network')
      else if (owner instanceof Greeting && greetings.remove(owner)) metrics.closed('network')
    })
  }

  // ---- frames ---------------------------------------------------------------------------------

  private read(socket: Socket, bytes: Uint8Array, isBinary: boolean): void {
    if (!isBinary) {
      this.close(socket, 'protocol_error', 'a text message')
      return
    }
    if (bytes.length > MESSAGE_BYTES_MAX) {
      this.close(socket, 'frame_too_large', `a message of ${bytes.length} bytes`)
      return
    }
    const fault = readFrames(bytes, RECEIVED, (frame) => {
      // Read for each frame: a HELLO makes the owner a session.
      const { owner } = socket
      if (owner instanceof Session) {
        owner.frame(frame, this.parts.turns.now)
        return owner.state !== 'closed'
      }
      return owner instanceof Greeting && this.applyGreeting(owner, owner.frame(frame))
    })
    if (fault) this.close(socket, fault.code, fault.detail)
  }

  /** Returns false if the rest of the message is not to be read. */
  private applyGreeting(greeting: Greeting, result: GreetingResult): boolean {
    switch (result.next) {
      case 'wait':
        return true
      case 'refuse':
        this.refuse(greeting, result.reason, result.detail)
        return false
      case 'hello':
        this.parts.greetings.remove(greeting)
        this.parts.handshake.begin(greeting, result.hello)
        return greeting.socket.owner instanceof Session
    }
  }

  // ---- closing --------------------------------------------------------------------------------

  /** Closes a connection before its HELLO. Does nothing if the HELLO has come. */
  refuse(greeting: Greeting, reason: CloseName, detail = ''): void {
    const { greetings, metrics } = this.parts
    if (!greetings.remove(greeting)) return
    metrics.closed(reason)
    closeSocket(greeting.socket, reason, detail)
  }

  private close(socket: Socket, reason: CloseName, detail = ''): void {
    const { effects, greetings, metrics } = this.parts
    const { owner } = socket
    if (owner instanceof Session) {
      effects.close(owner, reason, detail)
      return
    }
    if (owner instanceof Greeting) greetings.remove(owner)
    metrics.closed(reason)
    closeSocket(socket, reason, detail)
  }
}
