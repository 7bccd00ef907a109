/** A connection before its HELLO, without I/O: it belongs to no device and accepts no other frame. */
import type { CloseName } from '../../../protocol/close-codes.js'
import type { DeviceFrame, HelloFrame, UnknownFrame } from '../../../protocol/frame-types.js'
import { refusalOfHello } from '../../../protocol/hello.js'
import type { Socket } from '../socket/socket.js'

export type GreetingResult =
  | { next: 'hello'; hello: HelloFrame }
  | { next: 'refuse'; reason: CloseName; detail: string }
  /** The frame is of a later protocol version and was skipped. */
  | { next: 'wait' }

export class Greeting {
  private skipped = 0

  constructor(
    readonly socket: Socket,
    readonly openedTick: number,
    /** Most unknown frames that are skipped before HELLO. */
    private readonly skippedMax: number,
  ) {}

  frame(frame: DeviceFrame | UnknownFrame): GreetingResult {
    if (frame.type === 'UNKNOWN') {
      if (++this.skipped <= this.skippedMax) return { next: 'wait' }
      return { next: 'refuse', reason: 'rate_limited', detail: 'too many frames before HELLO' }
    }
    if (frame.type !== 'HELLO')
      return { next: 'refuse', reason: 'unexpected_frame', detail: `${frame.type} before HELLO` }
    const reason = refusalOfHello(frame)
    return reason ? { next: 'refuse', reason, detail: '' } : { next: 'hello', hello: frame }
  }
}

/** All connections before their HELLO, in the order in which they opened, which is the order of their deadlines. */
export class Greetings {
  private readonly waiting = new Set<Greeting>()
  /** Greetings that opened before this tick are silent, and `silentCount` of them wait. */
  private silentBeforeTick = 0
  private silentCount = 0

  /**
   * The number of connections that are expected to send HELLO at any moment. Those that were silent for a second or
   * two are not counted: otherwise a few connections that never send HELLO would make the worker refuse all others.
   */
  get expected(): number {
    return this.waiting.size - this.silentCount
  }

  /** Called at each tick. */
  tick(tick: number): void {
    this.silentBeforeTick = tick - 1
    this.silentCount = 0
    for (const _ of this.openedBefore(this.silentBeforeTick)) this.silentCount++
  }

  add(greeting: Greeting): void {
    this.waiting.add(greeting)
  }

  /** Returns false if the greeting was not waiting any more. */
  remove(greeting: Greeting): boolean {
    if (!this.waiting.delete(greeting)) return false
    if (greeting.openedTick < this.silentBeforeTick) this.silentCount--
    return true
  }

  *openedBefore(tick: number): Iterable<Greeting> {
    for (const greeting of this.waiting) {
      if (greeting.openedTick >= tick) return
      yield greeting
    }
  }

  all(): Greeting[] {
    return [...this.waiting]
  }
}
