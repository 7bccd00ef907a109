/** Computes the current rate of a ramp and the time left, from the last seconds only, because a ramp may slow down. */
const WINDOW_MS = 5_000

export class Pace {
  readonly #readings: { atMs: number; count: number }[] = []

  constructor(
    private readonly total: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** For example ` (3,200 a second, 12 s left)`; empty until there is a rate. */
  text(count: number): string {
    const readings = this.#readings
    const atMs = this.now()
    readings.push({ atMs, count })
    while (readings.length > 2 && atMs - (readings[1]?.atMs ?? 0) > WINDOW_MS) readings.shift()
    const first = readings[0] as { atMs: number; count: number }
    const perSecond = ((count - first.count) / (atMs - first.atMs)) * 1000
    if (!(perSecond > 0) || !Number.isFinite(perSecond)) return ''
    const left = Math.ceil(Math.max(0, this.total - count) / perSecond)
    return ` (${Math.round(perSecond).toLocaleString('en')} a second, ${left} s left)`
  }
}
