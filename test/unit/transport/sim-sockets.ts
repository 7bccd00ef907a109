/**
 * The Sockets port in memory on a virtual clock. Messages of device and worker arrive with a delay and in order. A
 * connection can be cut on one side only (half-open), stop reading, or end. One instance is the port of one worker.
 */
import type { SendResult, Socket, SocketHandlers, Sockets } from '../../../src/transport/socket/socket.js'
import type { VirtualClock } from '../../sim/clock.js'

export interface SimSocketsOptions {
  /** The clock of the network, not of a process, which stops with it: a sent close arrives although its worker died. */
  clock: VirtualClock
  /** The delay of one way. Called for each message. */
  delayMs?: () => number
  backpressureBytesMax?: number
}

/** The device's end. */
export class DeviceEnd {
  onMessage: (bytes: Uint8Array) => void = () => {}
  onClosed: (code: number) => void = () => {}

  constructor(private readonly socket: SimSocket) {}

  send(bytes: Uint8Array): void {
    this.socket.fromDevice(bytes)
  }

  /** Closes with a close frame: the worker notices. */
  close(code = 1000): void {
    this.socket.leave(code)
  }

  /** Vanishes without a close frame, as a phone that loses its network: the worker does not notice. */
  vanish(): void {
    this.socket.vanish()
  }

  /** Reads nothing until resumed. */
  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }
}

class SimSocket implements Socket {
  owner: unknown = null
  readonly device: DeviceEnd = new DeviceEnd(this)
  readonly joined = new Set<string>()
  private isOpen = true
  /** The device is gone, and the worker has not noticed. */
  private hasVanished = false
  private isPaused = false
  private unread: Uint8Array[] = []
  private arrivals = { up: 0, down: 0 }

  constructor(
    readonly address: string,
    private readonly world: { options: SimSocketsOptions; handlers: SocketHandlers; closed: (s: SimSocket) => void },
  ) {}

  send(bytes: Uint8Array): SendResult {
    if (!this.isOpen) return 'dropped'
    const own = Uint8Array.from(bytes)
    if (this.isPaused || this.hasVanished) {
      this.unread.push(own)
      if (this.buffered() <= (this.world.options.backpressureBytesMax ?? 1 << 20)) return 'buffered'
      this.close(1006)
      return 'dropped'
    }
    this.travel('down', () => this.device.onMessage(own))
    return 'sent'
  }

  buffered(): number {
    return this.unread.reduce((sum, { length }) => sum + length, 0)
  }

  end(code: number, _reason: string): void {
    this.close(code)
  }

  subscribe(topic: string): void {
    this.joined.add(topic)
  }

  unsubscribe(topic: string): void {
    this.joined.delete(topic)
  }

  topics(): string[] {
    return [...this.joined]
  }

  fromDevice(bytes: Uint8Array): void {
    if (this.hasVanished) return
    const own = Uint8Array.from(bytes)
    this.travel('up', () => {
      if (this.isOpen) this.world.handlers.message(this, own, true)
    })
  }

  leave(code: number): void {
    if (this.hasVanished) return
    this.hasVanished = true
    this.travel('up', () => this.close(code))
  }

  vanish(): void {
    this.hasVanished = true
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    for (const bytes of this.unread.splice(0)) this.travel('down', () => this.device.onMessage(bytes))
    if (this.isOpen) this.world.handlers.drained(this)
  }

  close(code: number): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.joined.clear()
    if (!this.hasVanished) this.travel('down', () => this.device.onClosed(code))
    this.world.closed(this)
    this.world.handlers.closed(this, code)
  }

  /** The process of the worker died: the kernel closes the connection, and messages in transit are lost. */
  workerDied(): void {
    if (!this.isOpen) return
    this.isOpen = false
    if (!this.hasVanished) this.device.onClosed(1006)
    this.hasVanished = true
  }

  /** Delivers after a delay, and never before an earlier message of the same direction. */
  private travel(way: 'up' | 'down', arrive: () => void): void {
    const { clock, delayMs } = this.world.options
    const atMs = Math.max(this.arrivals[way], clock.now() + (delayMs?.() ?? 1))
    this.arrivals[way] = atMs
    clock.after(atMs - clock.now(), () => {
      if (way === 'up' || !this.hasVanished) arrive()
    })
  }
}

export class SimSockets implements Sockets {
  private handlers: SocketHandlers | null = null
  private refused: SocketHandlers | null = null
  private readonly open = new Set<SimSocket>()

  constructor(private readonly options: SimSocketsOptions) {}

  listen(handlers: SocketHandlers): Promise<number> {
    this.handlers = handlers
    return Promise.resolve(1)
  }

  stopListening(): void {
    this.refused = this.handlers
    this.handlers = null
  }

  listenAgain(): Promise<void> {
    this.handlers = this.refused
    return Promise.resolve()
  }

  publish(topic: string, bytesOf: () => Uint8Array): number {
    const subscribers = [...this.open].filter((socket) => socket.joined.has(topic))
    for (const socket of subscribers) socket.send(bytesOf())
    return subscribers.length
  }

  close(): void {
    for (const socket of [...this.open]) socket.close(1006)
  }

  /** The process of the worker dies: each device sees its connection end, and the worker gets no further input. */
  crash(): void {
    this.handlers = null
    for (const socket of this.open) socket.workerDied()
    this.open.clear()
  }

  /** Connects a device. Returns null if the worker refuses it. */
  connect(address = '127.0.0.1'): DeviceEnd | null {
    const { handlers } = this
    if (!handlers || handlers.admit(address) !== null) return null
    const socket = new SimSocket(address, { options: this.options, handlers, closed: (s) => this.open.delete(s) })
    this.open.add(socket)
    handlers.opened(socket)
    return socket.device
  }
}
