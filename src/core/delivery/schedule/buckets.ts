/**
 * Follows records that are stored by the span of time ("bucket") in which they are due, and acts on them when their bucket
 * has ended. An entry is removed after its action, so that after a crash the next process continues where the last one
 * stopped.
 *
 * Any number of processes may run it at once, if a repeated action is harmless.
 */
import type { Clock } from '../../../clock.js'
import { evictOldest } from '../../../collections.js'
import type { Logger } from '../../../observe/log.js'

/** A log whose records are stored in buckets. An entry that is added to an ended bucket is late. */
export interface Buckets<E> {
  bucketOf(atMs: number): number
  /** The next record of a bucket (of any, if null) from a sequence on. `entry` is null if it cannot be read. */
  next(
    bucket: number | null,
    fromSequence: number,
  ): Promise<{ bucket: number; sequence: number; entry: E | null } | null>
  /** The bucket of the record at a sequence; null if there is no such record. */
  bucketAt(sequence: number): Promise<number | null>
  /** Removes entries that are done with: all that one read of the bucket found, in order. */
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

/** Most entries that are acted on at once. */
const ENTRIES_MAX = 256

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
    for (let from = 1; from <= end && !this.stopped; ) {
      const found = await buckets.next(null, from)
      if (found === null) break
      from = found.sequence + 1
      if (found.bucket >= current || done.has(found.bucket)) continue
      await this.work(found.bucket)
      done.add(found.bucket)
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
      const added = Array.from({ length: count }, (_, index) => buckets.bucketAt(this.seenTo + 1 + index))
      const late = new Set<number>()
      for (const bucket of await Promise.all(added)) if (bucket !== null && bucket < current) late.add(bucket)
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
    let found = await buckets.next(bucket, 1)
    if (found === null) return
    this.remember(bucket)
    const sequences: number[] = []
    while (found !== null && !this.stopped) {
      const page: E[] = []
      for (; found !== null && page.length < ENTRIES_MAX; found = await buckets.next(bucket, found.sequence + 1)) {
        sequences.push(found.sequence)
        if (found.entry) page.push(found.entry)
        else log.error({ bucket, sequence: found.sequence }, `an entry of ${name} has an unknown version: removed`)
      }
      await act(page)
    }
    // Invariant: an entry is removed only after its action.
    if (!this.stopped) await buckets.remove(sequences, bucket)
  }
}
