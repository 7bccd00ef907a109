/**
 * The share of a core that queries may take. Queries are status reads, lists, counters and cancels: one of them makes up
 * to thousands of requests to the store. Accept and route use the same connection to the store, so without a bound many
 * queries at once would leave them neither requests in flight nor time.
 *
 * A few queries run at once, each with a few requests in flight (READS_AT_ONCE). The others wait, and the projects take
 * turns. If too many wait, the project that has most of them waiting is refused.
 */
import { CodedError } from '../../../protocol/errors.js'
import type { Clock } from '../../clock.js'
import { setNewest } from '../../collections.js'

/** The targets or records that one query reads at once. Each of them takes at most two requests at once. */
export const READS_AT_ONCE = 16

export interface QueryLimits {
  /** One project runs at most half of them. */
  queriesAtOnceMax: number
  queriesWaitingMax: number
  queriesWaitMsMax: number
}

/** The first guess of the duration of a query, and the weight of a measured one in the moving average. */
const DURATION_MS = 50
const DURATION_WEIGHT = 1 / 16
/** The bounds of Retry-After. */
const RETRY_MS_MIN = 1_000
const RETRY_MS_MAX = 30_000

interface Waiting {
  start: () => void
  refuse: (error: CodedError) => void
}

export class QueryBudget {
  readonly #ofProjectMax: number
  readonly #runningOf = new Map<string, number>()
  /** No queue is empty. The project whose turn is next comes first. */
  readonly #queues = new Map<string, Waiting[]>()
  #running = 0
  #waiting = 0
  #refused = 0
  #durationMs = DURATION_MS

  /** @param random 0 up to 1, as Math.random. */
  constructor(
    readonly limits: QueryLimits,
    readonly clock: Clock,
    readonly random: () => number,
  ) {
    this.#ofProjectMax = Math.max(1, Math.floor(limits.queriesAtOnceMax / 2))
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting
  }

  /** The number of queries refused so far. */
  get refused(): number {
    return this.#refused
  }

  /**
   * Runs a query now or in its turn, and resolves with its result. Rejects with CodedError `overloaded`, with the time to
   * wait as `retryAfterMs` of its details, if too many queries wait or the turn comes too late.
   * @param isWanted returns false if the client is gone: then the query does not run.
   */
  run<T>(project: string, query: () => Promise<T>, isWanted: () => boolean = () => true): Promise<T> {
    if (this.#mayRun(project) && !this.#queues.has(project)) return this.#start(project, query)
    if (this.#waiting >= this.limits.queriesWaitingMax && !this.#makeRoom(project)) {
      return Promise.reject(this.#refusal())
    }
    return new Promise((resolve, reject) => {
      const cancelDeadline = this.clock.after(this.limits.queriesWaitMsMax, () => {
        this.#remove(project, waiting)
        waiting.refuse(this.#refusal())
      })
      const waiting: Waiting = {
        start: () => {
          cancelDeadline()
          if (isWanted()) this.#start(project, query).then(resolve, reject)
          else waiting.refuse(this.#refusal())
        },
        refuse: (error) => {
          cancelDeadline()
          reject(error)
        },
      }
      this.#waiting++
      const queue = this.#queues.get(project)
      if (queue) queue.push(waiting)
      else this.#queues.set(project, [waiting])
    })
  }

  /** The process is stopping: refuses every query that waits, so that the stop waits only for those that run. */
  close(): void {
    const waiting = [...this.#queues.values()].flat()
    this.#queues.clear()
    this.#waiting = 0
    for (const { refuse } of waiting) refuse(new CodedError('shutting_down'))
  }

  #mayRun(project: string): boolean {
    return this.#running < this.limits.queriesAtOnceMax && (this.#runningOf.get(project) ?? 0) < this.#ofProjectMax
  }

  async #start<T>(project: string, query: () => Promise<T>): Promise<T> {
    this.#running++
    this.#runningOf.set(project, (this.#runningOf.get(project) ?? 0) + 1)
    const startedMs = this.clock.now()
    try {
      return await query()
    } finally {
      this.#durationMs += DURATION_WEIGHT * (this.clock.now() - startedMs - this.#durationMs)
      this.#running--
      const left = (this.#runningOf.get(project) ?? 1) - 1
      if (left > 0) this.#runningOf.set(project, left)
      else this.#runningOf.delete(project)
      this.#startNext()
    }
  }

  #startNext(): void {
    for (let next = this.#takeNext(); next !== null; next = this.#takeNext()) next.start()
  }

  /** The first query of the first project that may run one. The project goes to the end of the turn. */
  #takeNext(): Waiting | null {
    for (const [project, queue] of this.#queues) {
      if (!this.#mayRun(project)) continue
      const next = queue.shift()
      if (queue.length > 0) setNewest(this.#queues, project, queue)
      else this.#queues.delete(project)
      if (next === undefined) continue
      this.#waiting--
      return next
    }
    return null
  }

  /** Refuses the newest query of the longest queue, and returns true; false if no queue is longer than that of `project`. */
  #makeRoom(project: string): boolean {
    let [longest, length] = [project, this.#queues.get(project)?.length ?? 0]
    for (const [other, queue] of this.#queues) if (queue.length > length + 1) [longest, length] = [other, queue.length]
    if (longest === project) return false
    const evicted = this.#queues.get(longest)?.at(-1)
    if (evicted === undefined) return false
    this.#remove(longest, evicted)
    evicted.refuse(this.#refusal())
    return true
  }

  #remove(project: string, waiting: Waiting): void {
    const queue = this.#queues.get(project) ?? []
    const index = queue.indexOf(waiting)
    if (index < 0) return
    queue.splice(index, 1)
    this.#waiting--
    if (queue.length === 0) this.#queues.delete(project)
  }

  /** Spreads the returns over the time that the waiting queries need, and once more that time. */
  #refusal(): CodedError {
    this.#refused++
    const neededMs = (this.#waiting * this.#durationMs) / this.limits.queriesAtOnceMax
    const spreadMs = Math.max(RETRY_MS_MIN, neededMs) * (1 + this.random())
    const retryAfterMs = Math.ceil(Math.min(RETRY_MS_MAX, spreadMs))
    return new CodedError('overloaded', 'too many status reads, lists and cancels are under way: try again later', {
      retryAfterMs,
    })
  }
}
