/** What a run counts. Bounded, whatever its length. */
const SURPRISES_KEPT = 20

export class Ledger {
  frames = 0
  connections = 0
  /** By code: 1006 is a connection that was cut without a close frame, where that was to be expected. */
  readonly closes = new Map<number, number>()
  /** Answers of the HTTP layers of the device port and of the core. */
  readonly statuses = new Map<number, number>()
  /** Of ours: we went, or waited long enough. */
  left = 0
  /** A message, or a session, that somebody got who had no right to it. */
  wrongDevice = 0
  surprises = 0
  readonly firstSurprises: string[] = []

  /** What no text allows: the run is not ok. `plan` repeats it, with the seed. */
  surprise(plan: string, what: string): void {
    this.surprises++
    if (this.firstSurprises.length < SURPRISES_KEPT) this.firstSurprises.push(`${plan}: ${what.slice(0, 1_000)}`)
  }

  closed(code: number): void {
    this.closes.set(code, (this.closes.get(code) ?? 0) + 1)
  }

  answered(status: number): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
  }
}
