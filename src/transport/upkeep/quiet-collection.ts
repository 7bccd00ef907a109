/**
 * A full garbage collection in the first quiet second after many connects.
 *
 * A handshake leaves garbage behind, part of it in the old generation, where it stays resident until V8 fills it up: on a
 * worker whose devices are silent that is far away. One collection stops the worker for as long as its sessions take to
 * walk: so it comes only when hardly anybody connects, and for so many connects that it is small beside what they cost.
 */

/** At least so many connects, and this share of the open connections, are worth a collection. */
const CAME_MIN = 500
const CAME_SHARE = 0.05
/** With fewer connects in a second than this, and this share of the open connections, it is quiet. */
const QUIET_MAX = 20
const QUIET_SHARE = 0.002

export class QuietCollection {
  private collectedAt = 0
  private last = 0

  /** @param collect null: there is no way to ask for it. */
  constructor(private readonly collect: (() => void) | null) {}

  /** Once a second: how many connections came so far, and are open now. */
  tick(came: number, open: number): void {
    const lately = came - this.last
    this.last = came
    const isQuiet = lately <= Math.max(QUIET_MAX, open * QUIET_SHARE)
    if (!isQuiet || came - this.collectedAt < Math.max(CAME_MIN, open * CAME_SHARE)) return
    this.collectedAt = came
    this.collect?.()
  }
}
