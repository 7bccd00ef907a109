/** Limits how many tasks run at once. Further tasks wait in a bounded queue, first in, first out. */
import { BrokerError } from '../broker.js'

interface Waiting {
  deadlineMs: number
  start: () => void
  refuse: (error: BrokerError) => void
}

export class Window {
  #running = 0
  #queue: Waiting[] = []
  #head = 0

  constructor(
    readonly runningMax: number,
    readonly waitingMax: number,
    readonly waitMsMax: number,
  ) {}

  /** Runs `task` now or in its turn. Rejects with `unavailable` if the queue is full or the turn comes too late. */
  run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running < this.runningMax && this.#waiting === 0) return this.#track(task())
    if (this.#waiting >= this.waitingMax) {
      return Promise.reject(new BrokerError('unavailable', 'too many appends wait for the server'))
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({
        deadlineMs: performance.now() + this.waitMsMax,
        start: () => this.#track(task()).then(resolve, reject),
        refuse: reject,
      })
    })
  }

  /** Rejects all waiting tasks. The error says that nothing of them was sent. */
  refuseWaiting(): void {
    const waiting = this.#queue.slice(this.#head)
    this.#queue = []
    this.#head = 0
    for (const { refuse } of waiting) refuse(new BrokerError('disconnected', 'the connection was lost before sending'))
  }

  get #waiting(): number {
    return this.#queue.length - this.#head
  }

  #track<T>(task: Promise<T>): Promise<T> {
    this.#running++
    task.then(this.#done, this.#done)
    return task
  }

  /** One callback for all tasks. The window does not look at their results. */
  readonly #done = () => {
    this.#running--
    this.#next()
  }

  #next(): void {
    while (this.#running < this.runningMax && this.#waiting > 0) {
      const next = this.#queue[this.#head++]
      if (this.#head > 1024 || this.#waiting === 0) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
      if (!next) continue
      if (next.deadlineMs < performance.now())
        next.refuse(new BrokerError('unavailable', 'waited too long for a place in flight'))
      else next.start()
    }
  }
}
