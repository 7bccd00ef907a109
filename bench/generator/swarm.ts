/**
 * The connections of one generator: made at a rate, kept alive, and made again with backoff where a close asks for it.
 * Nothing here costs a timer or a promise for each connection.
 */

import { record } from '../measure/latency.js'
import { nowMicros } from '../micros.js'
import type { Behaviour, Dialect, DialectHost } from './dialect.js'
import { sourceAddress } from './identity.js'
import { LoadSocket, Peer, type SocketOwner, State } from './peer.js'
import { reset } from './reset.js'
import { Tally } from './tally.js'
import {
  closeCode,
  type FramePosition,
  Opcode,
  readServerFrame,
  readUpgradeAnswer,
  upgradeRequest,
} from './websocket.js'

export interface SwarmConfig {
  host: string
  port: number
  path: string
  /** Number of the first device, and how many there are. */
  first: number
  count: number
  /** Source addresses start at that of this number: rounds on one port do not meet each other's TIME_WAIT. */
  addressFrom: number
  keepaliveMs: number
  /** Before a device comes back: a random time up to this, doubled with each failed attempt up to the other. */
  backoffFirstMs: number
  backoffMaxMs: number
}

export interface RampOptions {
  /** Devices that come, from the first idle one on. */
  count: number
  /** New connections a second of this generator; 0: as many as `inFlightMax` lets through. */
  perSecond: number
  inFlightMax: number
}

const TICK_MS = 10
const KEEPALIVE_TICK_MS = 250
/** A device pings a little before it would have to. */
const KEEPALIVE_EARLY = 0.9
/** A slow device reads for one second of so many. */
const SLOW_PERIOD = 10
const SLOW_TICK_MS = 1_000
const BACKOFF_SLOT_MS = 50

export class Swarm implements DialectHost, SocketOwner {
  readonly tally = new Tally()
  readonly behaviour: Behaviour = { acknowledge: true, reconnect: false, resume: true, slowEvery: 0, spread: 0 }
  readonly peers: Peer[] = []
  readonly #dialect: Dialect
  readonly #request: Buffer
  readonly #frame: FramePosition = { opcode: 0, start: 0, end: 0 }
  readonly #timers: NodeJS.Timeout[] = []
  /** Who comes back when: by time slot. */
  readonly #waiting = new Map<number, Peer[]>()
  #slotDone = 0
  #inFlight = 0
  #ramp: (RampOptions & { next: number; opened: number; wanted: number; startedMs: number; done(): void }) | null = null
  #keepaliveAt = 0
  #someAreSlow = false
  #slowTurn = 0
  #stopped = false

  constructor(
    private readonly config: SwarmConfig,
    makeDialect: (host: DialectHost) => Dialect,
  ) {
    this.#dialect = makeDialect(this)
    this.#request = upgradeRequest({ ...config, subprotocol: this.#dialect.subprotocol })
    for (let slot = 0; slot < config.count; slot++) this.peers.push(new Peer(slot, config.first + slot))
    this.#slotDone = slotOf(performance.now())
    this.#timers.push(setInterval(() => this.#slow(), SLOW_TICK_MS))
    this.#timers.push(setInterval(() => this.#tick(), TICK_MS))
    if (config.keepaliveMs > 0) this.#timers.push(setInterval(() => this.#keepalive(), KEEPALIVE_TICK_MS))
  }

  get dialect(): Dialect {
    return this.#dialect
  }

  /** Resolves when so many more are ready. */
  ramp(options: RampOptions): Promise<void> {
    const idle = this.peers.filter(({ state }) => state === State.IDLE).length
    const wanted = this.tally.ready + Math.min(options.count, idle)
    return new Promise((resolve) => {
      this.#ramp = { ...options, next: 0, opened: 0, wanted, startedMs: performance.now(), done: resolve }
      this.#tick()
    })
  }

  /** Resolves when all are gone. `abrupt`: by reset, so that no TIME_WAIT is left behind. */
  async leave(abrupt: boolean, count = this.peers.length): Promise<void> {
    const gone: Promise<void>[] = []
    for (const peer of this.peers) {
      if (gone.length === count) break
      if (peer.state === State.IDLE) continue
      const { socket } = peer
      peer.leaving = true
      if (!socket) {
        peer.state = State.IDLE
        continue
      }
      gone.push(new Promise((resolve) => socket.once('close', () => resolve())))
      if (abrupt) reset(socket)
      else {
        this.#dialect.leave(peer)
        socket.end()
      }
    }
    await Promise.all(gone)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers) clearInterval(timer)
    await this.leave(true)
  }

  ready(peer: Peer): void {
    if (peer.state === State.READY) return
    peer.state = State.READY
    peer.attempts = 0
    peer.retryAfterMs = 0
    this.tally.ready++
    this.#inFlight--
    record(this.tally.handshake, nowMicros() - peer.startedAtMicros)
    const ramp = this.#ramp
    if (ramp && this.tally.ready >= ramp.wanted) {
      this.#ramp = null
      ramp.done()
    } else if (ramp?.perSecond === 0) this.#openMore()
  }

  read(peer: Peer, bytes: Buffer, count: number): void {
    this.tally.bytesReceived += count
    if (peer.rest === null) this.#consume(peer, bytes, count)
    else {
      const whole = Buffer.concat([peer.rest, bytes.subarray(0, count)])
      peer.rest = null
      this.#consume(peer, whole, whole.length)
    }
  }

  #consume(peer: Peer, bytes: Buffer, end: number): void {
    let at = 0
    if (peer.state === State.UPGRADING) {
      const answer = readUpgradeAnswer(bytes, end)
      if (!answer) {
        peer.rest = Buffer.from(bytes.subarray(0, end))
        return
      }
      if (answer.status !== 101) {
        peer.retryAfterMs = answer.retryAfterMs
        peer.socket?.destroy()
        return
      }
      peer.state = State.OPENED
      at = answer.end
      this.#dialect.opened(peer)
    }
    const frame = this.#frame
    while (at < end && readServerFrame(bytes, at, end, frame)) {
      at = frame.end
      if (frame.opcode === Opcode.BINARY || frame.opcode === Opcode.TEXT || frame.opcode === Opcode.CONTINUATION)
        this.#dialect.message(peer, bytes, frame.start, frame.end)
      else if (frame.opcode === Opcode.PONG) this.tally.pongs++
      else if (frame.opcode === Opcode.CLOSE) {
        this.tally.closed(closeCode(bytes, frame.start, frame.end))
        peer.socket?.end()
      }
    }
    if (at < end) peer.rest = Buffer.from(bytes.subarray(at, end))
  }

  #tick(): void {
    this.#comeBack()
    if (this.#ramp) this.#openMore()
  }

  /** New connections up to what time and what is in flight allow. */
  #openMore(): void {
    const ramp = this.#ramp
    if (!ramp) return
    const elapsedMs = performance.now() - ramp.startedMs
    const due = ramp.perSecond > 0 ? (elapsedMs / 1000) * ramp.perSecond : Number.POSITIVE_INFINITY
    while (ramp.opened < ramp.count && ramp.opened < due && this.#inFlight < ramp.inFlightMax) {
      const peer = this.#nextIdle(ramp)
      if (!peer) return
      ramp.opened++
      this.#open(peer)
    }
  }

  #nextIdle(ramp: { next: number }): Peer | null {
    while (ramp.next < this.peers.length) {
      const peer = this.peers[ramp.next++] as Peer
      if (peer.state === State.IDLE) return peer
    }
    return null
  }

  #open(peer: Peer): void {
    peer.state = State.CONNECTING
    peer.leaving = false
    peer.rest = null
    peer.tail = null
    peer.startedAtMicros = nowMicros()
    this.#inFlight++
    const socket = new LoadSocket(peer, this)
    peer.socket = socket
    socket.once('connect', onConnect)
    socket.once('close', onClose)
    socket.once('error', onError)
    socket.setNoDelay(true)
    const { host, port } = this.config
    socket.connect({ host, port, localAddress: sourceAddress(this.config.addressFrom + peer.slot) })
  }

  connected(peer: Peer): void {
    peer.state = State.UPGRADING
    this.tally.connected++
    peer.send(this.#request)
  }

  closed(peer: Peer, socket: LoadSocket): void {
    this.tally.bytesSent += socket.bytesWritten
    peer.socket = null
    peer.rest = null
    const was = peer.state
    peer.state = State.IDLE
    if (was === State.READY) this.tally.ready--
    else this.#inFlight--
    if (was >= State.UPGRADING) this.tally.connected--
    if (peer.leaving || this.#stopped) return
    if (was === State.READY) this.tally.unexpectedDisconnects++
    else if (was === State.CONNECTING) this.tally.failed++
    else this.tally.refused++
    // Who was on the way is expected by a ramp, and tries again like any device.
    if (was !== State.READY || this.behaviour.reconnect) this.#later(peer)
  }

  /** Full jitter, or after the server's hint with as much again of jitter. */
  #later(peer: Peer): void {
    const { backoffFirstMs, backoffMaxMs } = this.config
    const ceiling = Math.min(backoffMaxMs, backoffFirstMs * 2 ** peer.attempts)
    peer.attempts++
    const waitMs = peer.retryAfterMs > 0 ? peer.retryAfterMs * (1 + Math.random()) : ceiling * Math.random()
    peer.retryAfterMs = 0
    peer.state = State.WAITING
    const slot = Math.max(slotOf(performance.now() + waitMs), this.#slotDone + 1)
    const others = this.#waiting.get(slot)
    if (others) others.push(peer)
    else this.#waiting.set(slot, [peer])
  }

  #comeBack(): void {
    const current = slotOf(performance.now())
    while (this.#slotDone < current) {
      this.#slotDone++
      const peers = this.#waiting.get(this.#slotDone)
      if (!peers) continue
      this.#waiting.delete(this.#slotDone)
      for (const peer of peers) if (peer.state === State.WAITING && !peer.leaving) this.#open(peer)
    }
  }

  /** Devices that are slow stop reading, and read again for a moment; where none is slow any more, all read. */
  #slow(): void {
    const { slowEvery } = this.behaviour
    if (slowEvery === 0 && !this.#someAreSlow) return
    const reads = slowEvery === 0 || this.#slowTurn++ % SLOW_PERIOD === 0
    for (const peer of this.peers) {
      if (peer.state !== State.READY) continue
      if (reads) peer.socket?.resume()
      else if (peer.index % slowEvery === 0) peer.socket?.pause()
    }
    this.#someAreSlow = slowEvery > 0
  }

  /** A slice of all at each tick, so that each has its turn once in the interval. */
  #keepalive(): void {
    const everyMs = this.config.keepaliveMs * KEEPALIVE_EARLY
    const turns = Math.ceil((this.peers.length * KEEPALIVE_TICK_MS) / everyMs)
    for (let i = 0; i < turns; i++) {
      const peer = this.peers[this.#keepaliveAt]
      this.#keepaliveAt = (this.#keepaliveAt + 1) % this.peers.length
      if (peer?.state === State.READY) this.#dialect.keepalive(peer)
    }
  }
}

const slotOf = (ms: number) => Math.floor(ms / BACKOFF_SLOT_MS)

function onConnect(this: LoadSocket): void {
  ;(this.owner as Swarm).connected(this.peer)
}

function onClose(this: LoadSocket): void {
  ;(this.owner as Swarm).closed(this.peer, this)
}

/** The close that follows is what counts. */
function onError(this: LoadSocket): void {
  this.destroy()
}
