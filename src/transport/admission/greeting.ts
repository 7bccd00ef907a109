/** A connection before its HELLO: it owns no device, and takes nothing else. Without I/O. */
import type { CloseName } from '../../../protocol/close-codes.js'
import type { DeviceFrame, HelloFrame, UnknownFrame } from '../../../protocol/frame-types.js'
import { refusalOfHello } from '../../../protocol/hello.js'
import type { Socket } from '../socket/socket.js'

export type GreetingResult =
  | { next: 'hello'; hello: HelloFrame }
  | { next: 'refuse'; reason: CloseName; detail: string }
  /** A frame of a later version, to be skipped. */
  | { next: 'wait' }

export class Greeting {
  private skipped = 0

  constructor(
    readonly socket: Socket,
    readonly openedTick: number,
    /** Most frames of later versions that are skipped before HELLO. */
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

/** All connections without HELLO, in the order in which they opened: the first is the first whose time is over. */
export class Greetings {
  private readonly waiting = new Set<Greeting>()
  /** Those opened before that tick are old, and how many of them wait. */
  private oldBefore = 0
  private old = 0

  /**
   * Those that may speak any moment. Who was silent for a second or two is none of them: otherwise a few that never
   * speak would keep the door shut for everybody.
   */
  get young(): number {
    return this.waiting.size - this.old
  }

  /** To be called at each tick. */
  age(tick: number): void {
    this.oldBefore = tick - 1
    this.old = 0
    for (const _ of this.openedBefore(this.oldBefore)) this.old++
  }

  add(greeting: Greeting): void {
    this.waiting.add(greeting)
  }

  /** False where it was not waiting any more. */
  remove(greeting: Greeting): boolean {
    if (!this.waiting.delete(greeting)) return false
    if (greeting.openedTick < this.oldBefore) this.old--
    return true
  }

  /** Those opened before `tick`. */
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
