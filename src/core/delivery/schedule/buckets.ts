/**
 * Follows records that are stored by the span of time ("bucket") in which they are due, and acts on them when their bucket
 * has ended. An entry is removed after its action, so that after a crash the next process continues where the last one
 * stopped.
 *
 * Any number of processes may run it at once, if a repeated action is harmless.
 */
import type { Clock } from '../../../clock.js'
import { evictOldest, mapAtOnce } from '../../../collections.js'
import type { Logger } from '../../../observe/log.js'

export interface BucketRecord {
  bucket: number
  sequence: number
  body: Uint8Array
}

/** A log whose records are stored in buckets. An entry that is added to an ended bucket is late. */
export interface Buckets<E> {
  bucketOf(atMs: number): number
  /** The next record of a bucket (of any, if null) from a sequence on. */
  next(bucket: number | null, fromSequence: number): Promise<BucketRecord | null>
  /** The record at a sequence; null if there is none. */
  at(sequence: number): Promise<BucketRecord | null>
  /** Null if the record has an unknown version. */
  decode(record: BucketRecord): E | null
  /** Removes entries that are done with. They are in order, and no entry of the bucket stands between them. */
  remove(sequences: readonly number[], bucket: number): Promise<void>
  lastSequence(): Promise<number>
}

export interface BucketStepOptions<E> {
  clock: Clock
  log: Logger
  /** For the log: the name of the entries. */
  name: string
  buckets: Buckets<E>
  bucketMs: number
  /** For how many rounds an emptied or passed bucket is read again, because a killed nats-server restores deletes. */
  lookBack: number
  /** Rejects if an action failed; the bucket is then read again. */
  act(entries: E[]): Promise<void>
}

/** Most entries that are read before they are acted on. */
const ENTRIES_MAX = 256

/** Most requests of one step that are under way at once: accept and route use the same connection to the store. */
export const REQUESTS_AT_ONCE = 64

/** Entries that are acted on before they are removed. A purge, as EXPIRY needs it, is dear; a crash repeats the actions. */
const REMOVED_AT_ONCE = 4_096

/** Most added entries that one round reads; the next round continues. */
const ADDED_MAX = 16_384

/** Most buckets that are read again. Beyond it, the oldest is not. */
const RECENT_MAX = 512

/** Beyond this number of buckets, all entries are read instead of bucket by bucket. */
const BUCKETS_MAX = 10_000

export class BucketStep<E> {
  private cancel: (() => void) | null = null
  private round: Promise<void> = Promise.resolve()
  private stopped = false
  /** Every bucket before this one was read after it had ended; null before the first round. */
  private reached: number | null = null
  /** Up to this sequence, late entries have been found. */
  private seenTo = 0
  /** Buckets that were recently passed or emptied, with the number of rounds in which they are still read. */
  private readonly recent = new Map<number, number>()

  constructor(private readonly options: BucketStepOptions<E>) {}

  /** Finds entries of earlier runs, however old, and then follows the buckets. */
  start(): void {
    this.run()
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.round
  }

  private run(): void {
    const { clock, bucketMs, log, name } = this.options
    this.round = this.workDue()
      .catch((error) => log.warn({ error }, `the ${name} step will be repeated`))
      .then(() => {
        if (!this.stopped) this.cancel = clock.after(bucketMs, () => this.run())
      })
  }

  /**
   * Reads every bucket that has ended since the last complete round, late entries, and entries that may have been
   * restored. It skips no bucket, however long the store was away and however far the clock was set forward.
   */
  private async workDue(): Promise<void> {
    const { clock, buckets, lookBack } = this.options
    const current = buckets.bucketOf(clock.now())
    const from = this.reached === null ? null : Math.min(this.reached, current) - 1
    await this.workAgain()
    if (from === null || current - from > BUCKETS_MAX) {
      await this.sweepAll(current)
      for (let bucket = current - lookBack; bucket < current; bucket++) this.remember(bucket)
    } else {
      for (let bucket = from; bucket < current && !this.stopped; bucket++) {
        await this.work(bucket)
        this.remember(bucket)
      }
      await this.workLate(current)
    }
    this.reached = current
  }

  /**
   * Reads all entries in stream order and empties the buckets before `current`. `current` is the time at the start of the
   * round: if the clock is set back meanwhile, entries would otherwise count as read although they were skipped.
   */
  private async sweepAll(current: number): Promise<void> {
    const { buckets } = this.options
    const end = await buckets.lastSequence()
    const done = new Set<number>()
    for (let from: number | null = 1; from !== null && from <= end && !this.stopped; ) {
      const page: Page = await this.read(null, from)
      for (const { bucket } of page.records) {
        if (bucket >= current || done.has(bucket)) continue
        await this.work(bucket)
        done.add(bucket)
      }
      from = page.next
    }
    this.seenTo = end
  }

  /**
   * Looks at the bucket of every entry that was added since the last round. A writer that was frozen, or whose clock is
   * behind ours, adds entries to buckets that have ended, however long ago.
   */
  private async workLate(current: number): Promise<void> {
    const { buckets } = this.options
    const end = await buckets.lastSequence()
    // A server that lost the end of its log assigns those sequences again.
    if (end < this.seenTo) await this.sweepAll(current)
    const until = Math.min(end, this.seenTo + ADDED_MAX)
    while (this.seenTo < until && !this.stopped) {
      const count = Math.min(ENTRIES_MAX, until - this.seenTo)
      const late = new Set<number>()
      for (const added of await this.readAt(this.seenTo + 1, count)) {
        if (added !== null && added.bucket < current) late.add(added.bucket)
      }
      for (const bucket of late) await this.work(bucket)
      this.seenTo += count
    }
  }

  private async workAgain(): Promise<void> {
    for (const [bucket, rounds] of [...this.recent]) {
      if (this.stopped) return
      this.recent.set(bucket, rounds - 1)
      await this.work(bucket)
      if ((this.recent.get(bucket) ?? 0) <= 0) this.recent.delete(bucket)
    }
  }

  private remember(bucket: number): void {
    const { lookBack } = this.options
    if (lookBack > 0) this.recent.set(bucket, lookBack)
    evictOldest(this.recent, RECENT_MAX)
  }

  private async work(bucket: number): Promise<void> {
    const { buckets, log, name, act } = this.options
    let done: number[] = []
    for (let from: number | null = 1; from !== null; ) {
      const { records, next }: Page = await this.read(bucket, from)
      if (records.length > 0) this.remember(bucket)
      const entries: E[] = []
      for (const record of records) {
        const entry = buckets.decode(record)
        if (entry) entries.push(entry)
        else log.error({ bucket, sequence: record.sequence }, `an entry of ${name} has an unknown version: removed`)
      }
      await act(entries)
      if (this.stopped) return
      // Invariant: an entry is removed only after its action.
      done.push(...records.map(({ sequence }) => sequence))
      from = next
      if (done.length === 0 || (from !== null && done.length < REMOVED_AT_ONCE)) continue
      await buckets.remove(done, bucket)
      done = []
    }
  }

  /**
   * The next records of a bucket (of any, if null) from a sequence on. The records of a campaign stand side by side, so
   * it reads many sequences at once where they do, and looks for the next record where they do not.
   */
  private async read(bucket: number | null, from: number): Promise<Page> {
    const { buckets } = this.options
    const records: BucketRecord[] = []
    let next = from
    let width = 0
    // Beyond the end, a record may be stored between two of these reads, and would be skipped.
    let end = 0
    while (records.length < ENTRIES_MAX) {
      const count = Math.min(width, ENTRIES_MAX - records.length, end - next + 1)
      if (count < 2) {
        const record = await buckets.next(bucket, next)
        if (record === null) return { records, next: null }
        records.push(record)
        width = record.sequence === next ? 2 : 0
        next = record.sequence + 1
        if (width > 0 && end < next) end = await buckets.lastSequence()
      } else {
        const looked = await this.readAt(next, count)
        const found = looked.filter((record) => record !== null)
        const own = found.filter((record) => bucket === null || record.bucket === bucket)
        records.push(...own)
        next += count
        width = 2 * own.length < count ? 0 : Math.min(2 * width, REQUESTS_AT_ONCE)
      }
    }
    return { records, next }
  }

  private readAt(from: number, count: number): Promise<(BucketRecord | null)[]> {
    const sequences = Array.from({ length: count }, (_, index) => from + index)
    return mapAtOnce(sequences, REQUESTS_AT_ONCE, (sequence) => this.options.buckets.at(sequence))
  }
}

interface Page {
  records: BucketRecord[]
  /** Where the next page starts; null if there are no more records. */
  next: number | null
}
