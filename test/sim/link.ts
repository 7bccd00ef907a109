/**
 * One simulated WebSocket connection between a device and a worker. It keeps the order of messages, adds latency, and
 * has three faults: cut (both ends see the close), half open (messages vanish and neither end is told), and slow (the
 * device reads with a delay, so that the worker's buffer fills).
 */
import type { Clock } from '../../src/clock.js'
import type { SocketEvents } from '../../src/device/connection/dial.js'
import type { SendResult, Socket, SocketHandlers } from '../../src/transport/socket/socket.js'
import { between, type Random } from './random.js'

/** The settings that all links share. */
export interface LinkWorld {
  random: Random
  /** The true time; the clocks of both ends may be wrong. */
  now(): number
  latencyMs: readonly [number, number]
  /** The worker buffers no more than this for a device that does not read. */
  backpressureBytesMax: number
}

/** One end of the link. A closed end receives nothing. */
interface End {
  clock: Clock
  open: boolean
  lastArrivalMs: number
}

/** The close code of a connection that ended without a close frame. */
const ABNORMAL = 1006

export class Link implements Socket {
  owner: unknown = null
  readonly joined = new Set<string>()
  /** The network drops all further messages in both directions, and neither end is told: the link is half open. */
  dropsEverything = false
  /** Additional time until the device reads a message. */
  slowMs = 0
  private readonly device: End
  private readonly worker: End
  private paused = false
  private readonly unread: (() => void)[] = []
  private bufferedBytes = 0

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

  /** Performs the upgrade, or the worker's refusal of it. */
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

  /** False after the device saw the close or crashed. */
  get isOpenAtDevice(): boolean {
    return this.device.open
  }

  // ---- the worker's end -------------------------------------------------------------------------

  send(bytes: Uint8Array): SendResult {
    if (!this.worker.open || this.bufferedBytes > this.world.backpressureBytesMax) return 'dropped'
    const message = bytes.slice()
    const isBuffered = this.isSlow
    if (isBuffered) this.bufferedBytes += message.length
    this.toDevice(() => this.read(message, isBuffered), this.slowMs)
    return isBuffered ? 'buffered' : 'sent'
  }

  buffered(): number {
    return this.bufferedBytes
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

  /** Sends a message of a topic. Like uWebSockets.js, it closes a subscriber that is too slow. */
  sendOrClose(bytes: Uint8Array): boolean {
    if (this.send(bytes) !== 'dropped') return true
    this.workerClosed(ABNORMAL)
    this.toDevice(() => this.deviceClosed(ABNORMAL, 0, 'too slow'))
    return false
  }

  /** The worker crashed. `silently`: its machine is gone too, so that the device gets no reset. */
  workerDied(silently: boolean): void {
    this.worker.open = false
    if (silently) this.dropsEverything = true
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
    if (silently) this.dropsEverything = true
    else this.toWorker(() => this.workerClosed(ABNORMAL))
  }

  // ---- the network ------------------------------------------------------------------------------

  cut(): void {
    this.toWorker(() => this.workerClosed(ABNORMAL))
    this.toDevice(() => this.deviceClosed(ABNORMAL, 0, 'cut'))
    this.dropsEverything = true
  }

  private get isSlow(): boolean {
    return this.slowMs > 0 || this.paused
  }

  private read(message: Uint8Array, isBuffered: boolean): void {
    if (this.paused) {
      this.unread.push(() => this.read(message, isBuffered))
      return
    }
    if (isBuffered) {
      this.bufferedBytes -= message.length
      if (this.bufferedBytes === 0) this.toWorker(() => this.handlers.drained(this))
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
    // A close frame waits behind the messages that the device has not read.
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
    if (this.dropsEverything) return
    const now = this.world.now()
    const arrivalMs = Math.max(now + between(this.world.random, this.world.latencyMs) + extraMs, to.lastArrivalMs)
    to.lastArrivalMs = arrivalMs
    to.clock.after(arrivalMs - now, fn)
  }
}
