/**
 * Measures how many handshakes a second this worker can finish: the number of handshakes that finish while one of
 * them is under way, divided by its duration. So a short burst gives a measurement too, and a low demand is not taken
 * for a low capacity. Pure.
 */

/** Measurements with fewer handshakes are ignored: they show how long the store takes to answer, not the capacity. */
const FINISHED_MIN = 16
/** The weight of a new measurement in the moving average. */
const WEIGHT = 1 / 32
const PER_SECOND_MIN = 10

/** The start of a handshake: its time, and the number of handshakes that had finished before. */
export interface HandshakeStart {
  ms: number
  finishedBefore: number
}

export class Throughput {
  private finished = 0
  private rate: number

  /** @param initialPerSecond estimate for a worker without other load. */
  constructor(private readonly initialPerSecond: number) {
    this.rate = initialPerSecond
  }

  /** The present rate. */
  get perSecond(): number {
    return this.rate
  }

  /**
   * The first guess of the rate after the present crowd: a crowd costs much itself, so the rate during it is too low an
   * estimate. ReturnRate corrects the guess.
   */
  get uncrowdedPerSecond(): number {
    return Math.max(this.rate, this.initialPerSecond)
  }

  /** The rate of an idle worker by its share of the machine: a measure of what the machine can do. */
  get initial(): number {
    return this.initialPerSecond
  }

  begin(ms: number): HandshakeStart {
    return { ms, finishedBefore: this.finished }
  }

  finish(start: HandshakeStart, ms: number): void {
    const count = ++this.finished - start.finishedBefore
    if (count < FINISHED_MIN) return
    const measured = (count * 1000) / Math.max(1, ms - start.ms)
    this.rate = Math.max(PER_SECOND_MIN, this.rate + WEIGHT * (measured - this.rate))
  }
}
