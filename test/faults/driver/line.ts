/** The way of a device to the server, which a fault can cut, clog or leave half-open from the device's end. */
import { decodeFrames } from '../../../protocol/decode.js'
import { systemClock } from '../../../src/clock.js'
import { wsDial } from '../../../src/device/connection/ws-dial.js'
import type { DeviceSocket, Dial, SocketEvents } from '../../../src/device/index.js'

const WEBSOCKET_BYTES_MAX = 1_048_576
const FRAME_BYTES_MAX = 1_048_576
const ABNORMAL = 1006

export type OnPush = (id: bigint, group: boolean) => void

interface Wire {
  socket: DeviceSocket
  events: SocketEvents
  /** The device has been told that it ended: nothing of it counts any more. */
  ghost: boolean
}

export class Line {
  private readonly real = wsDial(WEBSOCKET_BYTES_MAX, systemClock)
  private current: Wire | null = null
  private readonly ghosts = new Set<Wire>()

  constructor(private readonly onPush: OnPush) {}

  readonly dial: Dial = (url, events) => {
    const wire: Wire = { socket: noSocket, events, ghost: false }
    wire.socket = this.real(url, {
      opened: () => wire.ghost || events.opened(),
      received: (bytes) => {
        if (wire.ghost) return
        this.note(bytes)
        events.received(bytes)
      },
      closed: (code, retryAfterMs, detail) => {
        this.ghosts.delete(wire)
        if (!wire.ghost) events.closed(code, retryAfterMs, detail)
      },
    })
    this.current = wire
    return {
      send: (bytes) => wire.ghost || wire.socket.send(bytes),
      close: (code, reason) => wire.ghost || wire.socket.close(code, reason),
      pause: () => wire.ghost || wire.socket.pause(),
      resume: () => wire.ghost || wire.socket.resume(),
    }
  }

  /** The connection ends: the device comes back, to whichever worker the kernel chooses. */
  cut(): void {
    this.abandon()?.socket.close(1000, '')
  }

  /** The device knows that the connection ended, the server does not: nothing is read from it, and it stays open. */
  leaveHalfOpen(): void {
    const wire = this.abandon()
    if (!wire) return
    wire.socket.pause()
    this.ghosts.add(wire)
  }

  /** The device reads nothing until `read()`. */
  clog(): void {
    this.current?.socket.pause()
  }

  read(): void {
    this.current?.socket.resume()
  }

  /** Ends what was left half-open. */
  hangUp(): void {
    for (const { socket } of this.ghosts) {
      socket.resume()
      socket.close(1000, '')
    }
  }

  private abandon(): Wire | null {
    const wire = this.current
    if (!wire || wire.ghost) return null
    wire.ghost = true
    // Not inside our caller's turn: as from a socket.
    setImmediate(() => wire.events.closed(ABNORMAL, 0, 'a fault'))
    return wire
  }

  private note(bytes: Uint8Array): void {
    for (const frame of decodeFrames(bytes, { from: 'server', frameBytesMax: FRAME_BYTES_MAX }).frames) {
      if (frame.type === 'NOTIFY' || frame.type === 'NOTIFY_GROUP') this.onPush(frame.id, frame.type !== 'NOTIFY')
    }
  }
}

const noSocket: DeviceSocket = { send() {}, close() {}, pause() {}, resume() {} }
