/**
 * Follows records that stand under the span of time ("bucket") in which they are due, and acts on them once their bucket has
 * ended. What is done is forgotten after it, so that whoever goes on after a crash begins where the last one stopped.
 *
 * Any number of processes may run it at once, if doing the same twice is harmless.
 */
import type { Clock } from '../../clock.js'
import type { Logger } from '../../observe/log.js'

/** A log whose records stand in buckets; what is added to a bucket that has ended is late (see BucketStepOptions). */
export interface Buckets<E> {
  bucketOf(atMs: number): number
  /** The next record of a bucket (of any, where that is null) from a sequence on; `entry` is null where it can not be read. */
  next(
    bucket: number | null,
    fromSequence: number,
  ): Promise<{ bucket: number; sequence: number; entry: E | null } | null>
  /** These, which are all that a look found in the bucket, are done with; what came since may be forgotten with them. */
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
  /**
   * How entries are found that are added to a bucket that has ended, since a writer stood still or its clock is behind. A
   * number: so many past buckets are looked at again in each round. `follow`: every entry that is added is read once.
   */
  late: number | 'follow'
  /** Rejects where something is not done: then the bucket is looked at again. */
  act(entries: E[]): Promise<void>
}

/** Entries that are worked on at once. */
const ENTRIES_MAX = 256

/** More buckets than these are not asked one by one: every entry is looked at. */
const BUCKETS_MAX = 10_000

export class BucketStep<E> {
  private cancel: (() => void) | null = null
  private round: Promise<void> = Promise.resolve()
  private stopped = false
  /** All buckets before this one were looked at when they had ended; null: nothing was looked at yet. */
  private reached: number | null = null
  /** Every entry up to this sequence was read, or stood in a bucket that had not ended. */
  private sweptTo = 0

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
   * One look at every bucket that has ended since the last look that got to its end, and at what came late: however long the
   * store was away, or however far the clock was set forward, none is passed over.
   */
  private async workDue(): Promise<void> {
    const { clock, buckets, late } = this.options
    const current = buckets.bucketOf(clock.now())
    const lookBack = late === 'follow' ? 0 : late
    const from = this.reached === null ? null : Math.min(this.reached, current) - 1 - lookBack
    if (from === null || current - from > BUCKETS_MAX) await this.sweep(1)
    else {
      for (let bucket = from; bucket < current && !this.stopped; bucket++) await this.work(bucket)
      if (late === 'follow') await this.sweep(this.sweptTo + 1)
    }
    this.reached = current
  }

  /** Every entry from a sequence on, in the order of the stream: buckets that have ended are emptied. */
  private async sweep(first: number): Promise<void> {
    const { clock, buckets } = this.options
    const end = await buckets.lastSequence()
    const done = new Set<number>()
    // A server that lost the end of its log gives those sequences again.
    for (let from = first <= end + 1 ? first : 1; from <= end && !this.stopped; ) {
      const found = await buckets.next(null, from)
      if (found === null) break
      from = found.sequence + 1
      if (found.bucket >= buckets.bucketOf(clock.now()) || done.has(found.bucket)) continue
      await this.work(found.bucket)
      done.add(found.bucket)
    }
    this.sweptTo = end
  }

  private async work(bucket: number): Promise<void> {
    const { buckets, log, name, act } = this.options
    let found = await buckets.next(bucket, 1)
    if (found === null) return
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
    // Invariant: a bucket is forgotten only after everything that was found in it is done with.
    if (!this.stopped) await buckets.forget(sequences, bucket)
  }
}
