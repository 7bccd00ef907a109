/** How many subscribers of this worker a group message was sent to: counted here, reported about once a second. */
import type { Clock } from '../../clock.js'
import type { EventLog } from '../../store/events.js'

const REPORT_MS = 1_000

/** Messages whose counts wait for a report; with more than this the oldest counts are lost. */
const WAITING_MAX = 10_000

export class Receipts {
  private readonly counts = new Map<bigint, number>()
  private due: (() => void) | null = null

  constructor(
    private readonly events: EventLog,
    private readonly clock: Clock,
    private readonly owner: { instance: string; worker: string },
    private readonly onError: (what: string, error: unknown) => void,
  ) {}

  sent(id: bigint, subscribers: number): void {
    if (subscribers === 0) return
    this.counts.set(id, (this.counts.get(id) ?? 0) + subscribers)
    if (this.counts.size > WAITING_MAX) {
      const [oldest] = this.counts.keys()
      if (oldest !== undefined) this.counts.delete(oldest)
    }
    this.due ??= this.clock.after(REPORT_MS, () => void this.report())
  }

  async report(): Promise<void> {
    this.due?.()
    this.due = null
    const counts = [...this.counts]
    this.counts.clear()
    const atMs = this.clock.now()
    await Promise.all(
      counts.map(([id, sent]) =>
        this.events.receipts(id, { ...this.owner, sent, atMs }).catch((error: unknown) => {
          // Receipts are an account for people, not a promise: after a failure they are not sent twice.
          this.onError('receipts', error)
        }),
      ),
    )
  }

  async stop(): Promise<void> {
    await this.report()
  }
}
