/**
 * Runs a full garbage collection in the first quiet second after many connects.
 *
 * Handshakes leave garbage, a part of it in the old generation of V8's heap. There it stays resident until V8 fills
 * the generation up, which takes very long on a worker with silent devices. A collection stops the worker while V8
 * walks through its sessions. So it runs only while almost no device connects, and only after so many connects that
 * it is cheap relative to them.
 */

/** A collection is worth its time after this many connects, and after this share of the open connections. */
const CONNECTS_MIN = 500
const CONNECTS_SHARE = 0.05
/** A second is quiet with at most this many connects, or with at most this share of the open connections. */
const QUIET_MAX = 20
const QUIET_SHARE = 0.002

export class QuietCollection {
  private connectsAtCollection = 0
  private connectsBefore = 0

  /** @param collect null: the process does not allow to ask for a collection. */
  constructor(private readonly collect: (() => void) | null) {}

  /** Called once a second, with the number of all connects so far and of the connections that are open. */
  tick(connects: number, open: number): void {
    const connectsInSecond = connects - this.connectsBefore
    this.connectsBefore = connects
    const isQuiet = connectsInSecond <= Math.max(QUIET_MAX, open * QUIET_SHARE)
    const isWorthIt = connects - this.connectsAtCollection >= Math.max(CONNECTS_MIN, open * CONNECTS_SHARE)
    if (!isQuiet || !isWorthIt) return
    this.connectsAtCollection = connects
    this.collect?.()
  }
}
