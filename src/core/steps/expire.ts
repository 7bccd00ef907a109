/**
 * expire: writes the end of parked messages whose time has run out, and takes them out of the queues. It reads EXPIRY by
 * buckets of time; what it has done it forgets, so that a restart goes on where the last one stopped.
 *
 * Any number of processes may run it at once: the final event decides, and deleting twice is harmless.
 */
import type { Clock } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import type { EventLog } from '../../store/events.js'
import type { ExpiryEntry, ExpiryLog } from '../../store/expiry.js'
import type { ParkedQueue } from '../../store/parked.js'

export interface ExpireOptions {
  clock: Clock
  log: Logger
  events: EventLog
  expiry: ExpiryLog
  queue: ParkedQueue
  bucketMs: number
  /** How many past buckets are looked at again in each round, for entries that came late. */
  lookBack: number
}

/** Entries that are worked on at once. */
const ENTRIES_MAX = 256

/** More buckets than these are not asked one by one: every entry is looked at. */
const BUCKETS_MAX = 10_000

export class ExpireStep {
  private cancel: (() => void) | null = null
  private round: Promise<void> = Promise.resolve()
  private stopped = false
  /** All buckets before this one were looked at when they had ended; null: nothing was looked at yet. */
  private reached: number | null = null

  constructor(private readonly options: ExpireOptions) {}

  /** Finds what earlier runs left, of any age, and then follows the buckets. */
  start(): void {
    this.run()
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.round
  }

  private run(): void {
    const { clock, bucketMs, log } = this.options
    this.round = this.expireDue()
      .catch((error) => log.warn({ error }, 'the expiry step has to be repeated'))
      .then(() => {
        if (!this.stopped) this.cancel = clock.after(bucketMs, () => this.run())
      })
  }

  /**
   * One look at every bucket that has ended since the last look that got to its end, and at some before: however long the
   * store was away, or however far the clock was set forward, none is passed over.
   */
  async expireDue(): Promise<void> {
    const { clock, expiry, lookBack } = this.options
    const current = expiry.bucketOf(clock.now())
    const from = this.reached === null ? null : Math.min(this.reached, current) - 1 - lookBack
    if (from === null || current - from > BUCKETS_MAX) await this.sweepAll()
    else for (let bucket = from; bucket < current && !this.stopped; bucket++) await this.expireBucket(bucket)
    this.reached = current
  }

  /** Every entry there is, in the order of the stream: buckets that have ended are emptied. */
  async sweepAll(): Promise<void> {
    const { clock, expiry } = this.options
    const end = await expiry.lastSequence()
    const done = new Set<number>()
    for (let from = 1; from <= end && !this.stopped; ) {
      const found = await expiry.next(null, from)
      if (found === null) return
      from = found.sequence + 1
      if (found.bucket >= expiry.bucketOf(clock.now()) || done.has(found.bucket)) continue
      await this.expireBucket(found.bucket)
      done.add(found.bucket)
    }
  }

  private async expireBucket(bucket: number): Promise<void> {
    const { expiry, log } = this.options
    let found = await expiry.next(bucket, 1)
    if (found === null) return
    while (found !== null && !this.stopped) {
      const page: ExpiryEntry[] = []
      for (; found !== null && page.length < ENTRIES_MAX; found = await expiry.next(bucket, found.sequence + 1)) {
        if (found.entry) page.push(found.entry)
        else log.error({ bucket, sequence: found.sequence }, 'an entry of EXPIRY is of another version: dropped')
      }
      await this.expireAll(page)
    }
    // Invariant: a bucket is forgotten only after everything in it has its end. Entries are never added to a bucket
    // that has begun, so nothing new is in it.
    if (!this.stopped) await expiry.forget(bucket)
  }

  private async expireAll(entries: ExpiryEntry[]): Promise<void> {
    const byDevice = new Map<string, ExpiryEntry[]>()
    for (const entry of entries) {
      const ofDevice = byDevice.get(entry.device)
      if (ofDevice) ofDevice.push(entry)
      else byDevice.set(entry.device, [entry])
    }
    await Promise.all([...byDevice].map(([device, own]) => this.expireDevice(device, own)))
  }

  private async expireDevice(device: string, entries: ExpiryEntry[]): Promise<void> {
    const { events, queue, clock } = this.options
    await Promise.all(
      entries.map(({ id, project, application, expiresAtMs: atMs }) =>
        events.final(id, { kind: 'expired', atMs, project, application, device, reason: '' }),
      ),
    )
    // By id: the record may have moved since, or be gone with what ended otherwise.
    await queue.remove(device, new Set(entries.map((entry) => entry.id)), clock.now())
    await queue.sweepOut(
      device,
      entries.map((entry) => ({ sequence: entry.parkedSequence, id: entry.id })),
    )
  }
}
