/** The connection of a device, which a fault can cut, stop reading, or leave half open from the device's end. */
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
  /** The device was told that the connection ended, so that it hears nothing of this socket any more. */
  abandoned: boolean
}

export class Line {
  private readonly real = wsDial(WEBSOCKET_BYTES_MAX, systemClock)
  private current: Wire | null = null
  private readonly halfOpen = new Set<Wire>()

  constructor(private readonly onPush: OnPush) {}

  readonly dial: Dial = (url, events) => {
    const wire: Wire = { socket: noSocket, events, abandoned: false }
    wire.socket = this.real(url, {
      opened: () => wire.abandoned || events.opened(),
      received: (bytes) => {
        if (wire.abandoned) return
        this.note(bytes)
        events.received(bytes)
      },
      closed: (code, retryAfterMs, detail) => {
        this.halfOpen.delete(wire)
        if (!wire.abandoned) events.closed(code, retryAfterMs, detail)
      },
    })
    this.current = wire
    return {
      send: (bytes) => wire.abandoned || wire.socket.send(bytes),
      close: (code, reason) => wire.abandoned || wire.socket.close(code, reason),
      pause: () => wire.abandoned || wire.socket.pause(),
      resume: () => wire.abandoned || wire.socket.resume(),
    }
  }

  /** Ends the connection. The device reconnects to the worker that the kernel chooses. */
  cut(): void {
    this.abandon()?.socket.close(1000, '')
  }

  /** Tells the device that the connection ended, and leaves the socket open, so that the server does not notice. */
  leaveHalfOpen(): void {
    const wire = this.abandon()
    if (!wire) return
    wire.socket.pause()
    this.halfOpen.add(wire)
  }

  /** Stops reading from the socket until resumeReading(). */
  stopReading(): void {
    this.current?.socket.pause()
  }

  resumeReading(): void {
    this.current?.socket.resume()
  }

  /** Closes the sockets of leaveHalfOpen(). */
  closeHalfOpen(): void {
    for (const { socket } of this.halfOpen) {
      socket.resume()
      socket.close(1000, '')
    }
  }

  private abandon(): Wire | null {
    const wire = this.current
    if (!wire || wire.abandoned) return null
    wire.abandoned = true
    // A real socket reports its close in a later turn too.
    setImmediate(() => wire.events.closed(ABNORMAL, 0, 'an injected fault'))
    return wire
  }

  private note(bytes: Uint8Array): void {
    for (const frame of decodeFrames(bytes, { from: 'server', frameBytesMax: FRAME_BYTES_MAX }).frames) {
      if (frame.type === 'NOTIFY' || frame.type === 'NOTIFY_GROUP') this.onPush(frame.id, frame.type !== 'NOTIFY')
    }
  }
}

const noSocket: DeviceSocket = { send() {}, close() {}, pause() {}, resume() {} }
