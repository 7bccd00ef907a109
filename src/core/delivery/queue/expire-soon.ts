/**
 * Expires queued messages that have a short life soon after their end. The expire step reads EXPIRY in spans of ten
 * seconds, so a sender of a message for three seconds would wait long to be told. The core that queues such a message
 * remembers it and ends it itself. If that fails, or the core stops before, the expire step ends the message all the same.
 */
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'
import type { ExpiryEntry } from '../../../store/expiry.js'

/** Longer lives are left to the expire step. */
const LIFE_MS_MAX = 60_000
const LOOK_MS = 1_000
/** Most messages that are remembered. */
const ENTRIES_MAX = 10_000

export interface ExpireSoonOptions {
  clock: Clock
  log: Logger
  /** Ends messages that have expired. */
  expire: (entries: ExpiryEntry[]) => Promise<void>
}

export class ExpireSoon {
  private readonly entries = new Set<ExpiryEntry>()
  private cancel: (() => void) | null = null
  private expiring: Promise<void> = Promise.resolve()

  constructor(private readonly options: ExpireSoonOptions) {}

  /** A message was queued. */
  add(entry: ExpiryEntry): void {
    if (entry.expiresAtMs - this.options.clock.now() > LIFE_MS_MAX || this.entries.size >= ENTRIES_MAX) return
    this.entries.add(entry)
    this.cancel ??= this.options.clock.after(LOOK_MS, () => this.look())
  }

  async stop(): Promise<void> {
    this.cancel?.()
    this.entries.clear()
    await this.expiring
  }

  private look(): void {
    const { clock, log, expire } = this.options
    const nowMs = clock.now()
    const due = [...this.entries].filter(({ expiresAtMs }) => expiresAtMs <= nowMs)
    for (const entry of due) this.entries.delete(entry)
    this.cancel = this.entries.size > 0 ? clock.after(LOOK_MS, () => this.look()) : null
    if (due.length === 0) return
    this.expiring = Promise.all([this.expiring, expire(due)]).then(
      () => undefined,
      (error: unknown) => log.debug({ error }, 'messages that have expired are left to the expire step'),
    )
  }
}
