/**
 * Counts to how many subscribers of this worker each group message was sent. About once a second, it writes the totals that
 * changed.
 */
import type { Clock } from '../../clock.js'
import type { ReceiptLog } from '../../store/receipts.js'

const WRITE_MS = 1_000
/** Most messages whose totals are remembered. The oldest that is written is forgotten first. */
const MESSAGES_MAX = 10_000

interface Total {
  sent: number
  /** Of `sent`, how many are stored. */
  stored: number
  part: number
}

export class Receipts {
  /** In the order of the first copy. */
  private readonly totals = new Map<bigint, Total>()
  private readonly changed = new Set<bigint>()
  /** Increases when a total is forgotten, so that a later one of the same message replaces nothing. */
  private part = 0
  private cancelWrite: (() => void) | null = null

  constructor(
    private readonly log: Pick<ReceiptLog, 'write'>,
    private readonly clock: Clock,
    private readonly owner: { instance: string; worker: string },
    private readonly onError: (task: string, error: unknown) => void,
  ) {}

  sent(id: bigint, subscribers: number): void {
    if (subscribers === 0) return
    const total = this.totals.get(id) ?? { sent: 0, stored: 0, part: this.part }
    total.sent += subscribers
    this.totals.set(id, total)
    this.changed.add(id)
    this.forgetOldest()
    this.writeLater()
  }

  /** Writes the totals that changed. Never rejects: what cannot be written is written the next time. */
  async write(): Promise<void> {
    this.cancelWrite?.()
    this.cancelWrite = null
    const ids = [...this.changed]
    this.changed.clear()
    await Promise.all(ids.map((id) => this.writeOne(id)))
  }

  /** Writes the last totals. */
  async stop(): Promise<void> {
    await this.write()
    this.cancelWrite?.()
  }

  private async writeOne(id: bigint): Promise<void> {
    const total = this.totals.get(id)
    if (!total || total.sent === total.stored) return
    const { sent, part } = total
    try {
      await this.log.write(id, { ...this.owner, part, sent, atMs: this.clock.now() })
      total.stored = sent
    } catch (error) {
      this.onError('receipts', error)
      // A total may be written twice: it says the same.
      this.changed.add(id)
      this.writeLater()
    }
  }

  private writeLater(): void {
    this.cancelWrite ??= this.clock.after(WRITE_MS, () => void this.write())
  }

  private forgetOldest(): void {
    if (this.totals.size <= MESSAGES_MAX) return
    let oldest: bigint | undefined
    for (const id of this.totals.keys()) {
      oldest ??= id
      if (this.changed.has(id)) continue
      oldest = id
      break
    }
    if (oldest === undefined) return
    this.totals.delete(oldest)
    this.changed.delete(oldest)
    this.part++
  }
}
