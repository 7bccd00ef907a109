/**
 * How many handshakes a second this worker can finish, as it turns out: by how many are finished while one of them is under
 * way. So it is known from short bursts as well, and no lack of demand looks like a lack of strength. Pure.
 */

/** Who saw so few others finish was nearly alone, and says how long the way to the store is, not how many can go it. */
const COMPANY_MIN = 16
/** How much of a new figure counts. */
const SHARE = 1 / 32
const PER_SECOND_MIN = 10

/** When a handshake began, and how many had finished before. */
export interface Begun {
  ms: number
  finished: number
}

export class Throughput {
  private finished = 0
  private rate: number

  /** `guess`: handshakes a second of a worker that is not disturbed. */
  constructor(private readonly guess: number) {
    this.rate = guess
  }

  /** As it goes now. */
  get perSecond(): number {
    return this.rate
  }

  /** As it will go when the crowd of now is gone: it costs much, and is no measure of what comes after it. */
  get soonPerSecond(): number {
    return Math.max(this.rate, this.guess)
  }

  begin(ms: number): Begun {
    return { ms, finished: this.finished }
  }

  finish(begun: Begun, ms: number): void {
    const count = ++this.finished - begun.finished
    if (count < COMPANY_MIN) return
    const measured = (count * 1000) / Math.max(1, ms - begun.ms)
    this.rate = Math.max(PER_SECOND_MIN, this.rate + SHARE * (measured - this.rate))
  }
}
