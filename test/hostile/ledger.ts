/** The counters of a hostile run, and its first surprises. A surprise is any behaviour that PROTOCOL.md does not allow. */
const SURPRISES_KEPT = 20

export class Ledger {
  frames = 0
  connections = 0
  /** Number of closes by code. 1006 counts expected ends without a close frame. */
  readonly closes = new Map<number, number>()
  /** Number of HTTP answers by status, of the device port and of the core. */
  readonly statuses = new Map<number, number>()
  /** Number of connections that the attacker ended itself. */
  left = 0
  /** Number of messages and sessions that a device got without a right to them. */
  wrongDevice = 0
  surprises = 0
  readonly firstSurprises: string[] = []

  /** Records a surprise, which fails the run. The seed and `plan` repeat it. */
  surprise(plan: string, detail: string): void {
    this.surprises++
    if (this.firstSurprises.length < SURPRISES_KEPT) this.firstSurprises.push(`${plan}: ${detail.slice(0, 1_000)}`)
  }

  closed(code: number): void {
    this.closes.set(code, (this.closes.get(code) ?? 0) + 1)
  }

  answered(status: number): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
  }
}
