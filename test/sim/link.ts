/**
 * One simulated WebSocket connection between a device and a worker: in order, with latency, and with all that can
 * happen to it. Cut: both ends see it. Half open: neither does. Slow: the device reads when it likes.
 */
import type { Clock } from '../../src/clock.js'
import type { SocketEvents } from '../../src/device/connection/dial.js'
import type { SendResult, Socket, SocketHandlers } from '../../src/transport/socket/socket.js'
import { between, type Random } from './random.js'

/** What both ends of all links have in common. */
export interface LinkWorld {
  random: Random
  /** True time: the clocks of the ends may be wrong. */
  now(): number
  latencyMs: readonly [number, number]
  /** More than this is not kept for a device that does not read. */
  backpressureBytesMax: number
}

/** One end of the link: its clock, and whether it still wants to hear of the link. */
interface End {
  clock: Clock
  open: boolean
  lastArrivalMs: number
}

/** Close code of a connection that ended without one. */
const ABNORMAL = 1006

export class Link implements Socket {
  owner: unknown = null
  readonly joined = new Set<string>()
  /** Neither end hears of the other any more, and does not know. */
  lost = false
  /** So long the device takes for each message; 0: it reads at once. */
  slowMs = 0
  private readonly device: End
  private readonly worker: End
  private paused = false
  private readonly unread: (() => void)[] = []
  private kept = 0

  constructor(
    private readonly world: LinkWorld,
    readonly address: string,
    deviceClock: Clock,
    private readonly events: SocketEvents,
    workerClock: Clock,
    private readonly handlers: SocketHandlers,
    private readonly onEnd: (link: Link) => void,
  ) {
    this.device = { clock: deviceClock, open: true, lastArrivalMs: 0 }
    this.worker = { clock: workerClock, open: false, lastArrivalMs: 0 }
  }

  /** The device dials. */
  connect(): void {
    this.toWorker(() => {
      const retryAfterSeconds = this.handlers.admit(this.address)
      if (retryAfterSeconds !== null) {
        this.toDevice(() => this.deviceClosed(ABNORMAL, retryAfterSeconds * 1_000, 'refused'))
        return
      }
      this.worker.open = true
      this.handlers.opened(this)
      this.toDevice(() => this.events.opened())
    }, true)
  }

  /** False once the device saw the connection end, or died. */
  get isOpenAtDevice(): boolean {
    return this.device.open
  }

  // ---- the worker's end -------------------------------------------------------------------------

  send(bytes: Uint8Array): SendResult {
    if (!this.worker.open || this.kept > this.world.backpressureBytesMax) return 'dropped'
    const message = bytes.slice()
    const isKept = this.isSlow
    if (isKept) this.kept += message.length
    this.toDevice(() => this.read(message, isKept), this.slowMs)
    return isKept ? 'buffered' : 'sent'
  }

  buffered(): number {
    return this.kept
  }

  end(code: number, reason: string): void {
    if (!this.worker.open) return
    this.workerClosed(code)
    this.toDevice(() => this.deviceClosed(code, 0, reason))
  }

  subscribe(topic: string): void {
    if (this.worker.open) this.joined.add(topic)
  }

  unsubscribe(topic: string): void {
    this.joined.delete(topic)
  }

  topics(): string[] {
    return [...this.joined]
  }

  /** As uWebSockets.js does with a subscriber that is too slow. */
  sendOrClose(bytes: Uint8Array): boolean {
    if (this.send(bytes) !== 'dropped') return true
    this.workerClosed(ABNORMAL)
    this.toDevice(() => this.deviceClosed(ABNORMAL, 0, 'too slow'))
    return false
  }

  /** The worker's process is gone. `silently`: its machine too, so that nobody tells the device. */
  workerDied(silently: boolean): void {
    this.worker.open = false
    if (silently) this.lost = true
    else this.toDevice(() => this.deviceClosed(ABNORMAL, 0, 'reset'))
    this.onEnd(this)
  }

  // ---- the device's end -------------------------------------------------------------------------

  fromDevice(bytes: Uint8Array): void {
    if (!this.device.open) return
    const message = bytes.slice()
    this.toWorker(() => this.handlers.message(this, message, true))
  }

  closeFromDevice(code: number): void {
    if (!this.device.open) return
    this.device.open = false
    this.toWorker(() => this.workerClosed(code))
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    while (!this.paused && this.unread.length > 0) this.unread.shift()?.()
  }

  deviceDied(silently: boolean): void {
    this.device.open = false
    if (silently) this.lost = true
    else this.toWorker(() => this.workerClosed(ABNORMAL))
  }

  // ---- the network ------------------------------------------------------------------------------

  cut(): void {
    this.toWorker(() => this.workerClosed(ABNORMAL))
    this.toDevice(() => this.deviceClosed(ABNORMAL, 0, 'cut'))
    this.lost = true
  }

  private get isSlow(): boolean {
    return this.slowMs > 0 || this.paused
  }

  private read(message: Uint8Array, isKept: boolean): void {
    if (this.paused) {
      this.unread.push(() => this.read(message, isKept))
      return
    }
    if (isKept) {
      this.kept -= message.length
      if (this.kept === 0) this.toWorker(() => this.handlers.drained(this))
    }
    if (this.device.open) this.events.received(message)
  }

  private workerClosed(code: number): void {
    if (!this.worker.open) return
    this.worker.open = false
    this.joined.clear()
    this.onEnd(this)
    this.handlers.closed(this, code)
  }

  private deviceClosed(code: number, retryAfterMs: number, detail: string): void {
    // A close frame waits behind what was not read.
    if (this.paused) this.unread.push(() => this.deviceClosed(code, retryAfterMs, detail))
    else if (this.device.open) {
      this.device.open = false
      this.events.closed(code, retryAfterMs, detail)
    }
  }

  private toDevice(fn: () => void, extraMs = 0): void {
    this.travel(this.device, fn, extraMs)
  }

  private toWorker(fn: () => void, opening = false): void {
    this.travel(this.worker, () => {
      if (opening || this.worker.open) fn()
    })
  }

  private travel(to: End, fn: () => void, extraMs = 0): void {
    if (this.lost) return
    const now = this.world.now()
    const arrivalMs = Math.max(now + between(this.world.random, this.world.latencyMs) + extraMs, to.lastArrivalMs)
    to.lastArrivalMs = arrivalMs
    to.clock.after(arrivalMs - now, fn)
  }
}
