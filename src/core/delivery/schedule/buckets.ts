/**
 * Follows records that stand under the span of time ("bucket") in which they are due, and acts on them once their bucket has
 * ended. What is done is forgotten after it, so that whoever goes on after a crash begins where the last one stopped.
 *
 * Any number of processes may run it at once, if doing the same twice is harmless.
 */
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'

/** A log whose records stand in buckets; what is added to a bucket that has ended came late. */
export interface Buckets<E> {
  bucketOf(atMs: number): number
  /** The next record of a bucket (of any, where that is null) from a sequence on; `entry` is null where it can not be read. */
  next(
    bucket: number | null,
    fromSequence: number,
  ): Promise<{ bucket: number; sequence: number; entry: E | null } | null>
  /** Of the record at a sequence; null where there is none (any more). */
  bucketAt(sequence: number): Promise<number | null>
  /** These, which are all that a look found in the bucket, in their order, are done with. */
  forget(sequences: readonly number[], bucket: number): Promise<void>
  lastSequence(): Promise<number>
}

export interface BucketStepOptions<E> {
  clock: Clock
  log: Logger
  /** For the log: what it is that is repeated or left out. */
  name: string
  buckets: Buckets<E>
  bucketMs: number
  /** How many rounds a bucket is looked at again after it was emptied or passed: a killed nats-server brings back deletes. */
  lookBack: number
  /** Rejects where something is not done: then the bucket is looked at again. */
  act(entries: E[]): Promise<void>
}

/** Entries that are worked on at once. */
const ENTRIES_MAX = 256

/** Entries that were added are read in one round up to this number; the next round goes on. */
const ADDED_MAX = 16_384

/** Buckets that are looked at again; beyond it the oldest is not. */
const RECENT_MAX = 512

/** More buckets than these are not asked one by one: every entry is looked at. */
const BUCKETS_MAX = 10_000

export class BucketStep<E> {
  private cancel: (() => void) | null = null
  private round: Promise<void> = Promise.resolve()
  private stopped = false
  /** All buckets before this one were looked at when they had ended; null: nothing was looked at yet. */
  private reached: number | null = null
  /** Up to this sequence it is known which entries were added to a bucket that had ended. */
  private seenTo = 0
  /** Buckets that were passed or emptied of late, and for how many rounds they are still looked at. */
  private readonly recent = new Map<number, number>()

  constructor(private readonly options: BucketStepOptions<E>) {}

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
    const { clock, bucketMs, log, name } = this.options
    this.round = this.workDue()
      .catch((error) => log.warn({ error }, `the ${name} step has to be repeated`))
      .then(() => {
        if (!this.stopped) this.cancel = clock.after(bucketMs, () => this.run())
      })
  }

  /**
   * One look at every bucket that has ended since the last look that got to its end, at what came late, and at what may have come
   * back: however long the store was away, or however far the clock was set forward, none is passed over.
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
   * Every entry there is, in the order of the stream: buckets before `current` are emptied. Not before what the clock says by
   * then: set back meanwhile, it would have entries passed over that count as looked at.
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
   * Reads every entry that was added since the last round, for its bucket: a writer that stood still, or whose clock is behind
   * ours, adds to one that has ended, however long ago.
   */
  private async workLate(current: number): Promise<void> {
    const { buckets } = this.options
    const end = await buckets.lastSequence()
    // A server that lost the end of its log gives those sequences again.
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
    for (const oldest of this.recent.keys()) {
      if (this.recent.size <= RECENT_MAX) break
      this.recent.delete(oldest)
    }
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
        else log.error({ bucket, sequence: found.sequence }, `an entry of ${name} is of another version: dropped`)
      }
      await act(page)
    }
    // Invariant: an entry is forgotten only after it is done with.
    if (!this.stopped) await buckets.forget(sequences, bucket)
  }
}
