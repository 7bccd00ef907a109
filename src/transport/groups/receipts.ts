/**
 * Counts to how many subscribers of this worker each group message was sent, and writes the counts to the event log
 * about once a second.
 */
import type { Clock } from '../../clock.js'
import type { EventLog } from '../../store/events.js'

const WRITE_MS = 1_000

/** Most messages whose counts wait to be written. Beyond, the oldest count is dropped. */
const WAITING_MAX = 10_000

export class Receipts {
  private readonly counts = new Map<bigint, number>()
  private cancelWrite: (() => void) | null = null

  constructor(
    private readonly events: EventLog,
    private readonly clock: Clock,
    private readonly owner: { instance: string; worker: string },
    private readonly onError: (task: string, error: unknown) => void,
  ) {}

  sent(id: bigint, subscribers: number): void {
    if (subscribers === 0) return
    this.counts.set(id, (this.counts.get(id) ?? 0) + subscribers)
    if (this.counts.size > WAITING_MAX) {
      const [oldest] = this.counts.keys()
      if (oldest !== undefined) this.counts.delete(oldest)
    }
    this.cancelWrite ??= this.clock.after(WRITE_MS, () => void this.write())
  }

  /** Writes the counts that wait. */
  async write(): Promise<void> {
    this.cancelWrite?.()
    this.cancelWrite = null
    const counts = [...this.counts]
    this.counts.clear()
    const atMs = this.clock.now()
    await Promise.all(
      counts.map(([id, sent]) =>
        this.events.receipts(id, { ...this.owner, sent, atMs }).catch((error: unknown) => {
          // A failed write is not repeated: receipts inform people, no delivery depends on them.
          this.onError('receipts', error)
        }),
      ),
    )
  }
}
