/** How fast something goes, and when it will be through: over the last seconds, for it may slow down. */
const WINDOW_MS = 5_000

export class Pace {
  readonly #looks: { atMs: number; count: number }[] = []

  constructor(
    private readonly total: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** ` (3,200 a second, 12 s left)`; empty where nothing can be said yet. */
  text(count: number): string {
    const looks = this.#looks
    const atMs = this.now()
    looks.push({ atMs, count })
    while (looks.length > 2 && atMs - (looks[1]?.atMs ?? 0) > WINDOW_MS) looks.shift()
    const first = looks[0] as { atMs: number; count: number }
    const perSecond = ((count - first.count) / (atMs - first.atMs)) * 1000
    if (!(perSecond > 0) || !Number.isFinite(perSecond)) return ''
    const left = Math.ceil(Math.max(0, this.total - count) / perSecond)
    return ` (${Math.round(perSecond).toLocaleString('en')} a second, ${left} s left)`
  }
}
