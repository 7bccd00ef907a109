/** One worker process as its supervisor sees it, from its start to its end. */
import type { ChildProcess } from 'node:child_process'
import type { Clock } from '../../clock.js'
import type { MetricsSnapshot } from '../../observe/merge.js'
import { type DrainPace, drainMsMax } from '../upkeep/drain.js'
import type { Answers, FromWorker, Question, ToWorker } from './ipc.js'

export type ChildState = 'starting' | 'ready' | 'draining' | 'ended'

/**
 * A worker that is not ready after this time is killed. The limit is high: on a busy machine a new start is no
 * faster.
 */
const READY_MS_MAX = 180_000
const ANSWER_MS_MAX = 5_000
/** A worker that has not ended this long after the time of its drain is killed. */
const KILL_MARGIN_MS = 5_000

export class WorkerChild {
  /** Rejects if the process ends before it is ready. A process that is not ready in time is killed. */
  readonly ready: Promise<void>
  /** Resolves with the reason of the end: an exit code, a signal or an error. */
  readonly ended: Promise<string>
  readonly startedAtMs: number
  wasReady = false
  /** The last metrics that the worker sent; null if it sent none. */
  lastSnapshot: MetricsSnapshot | null = null
  private currentState: ChildState = 'starting'
  private lastQuestionId = 0
  private readonly openQuestions = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()

  constructor(
    readonly index: number,
    private readonly child: ChildProcess,
    private readonly clock: Clock,
  ) {
    this.startedAtMs = clock.now()
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message))
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`))
    })
    void this.ended.then((reason) => this.onEnded(reason))
    this.ready = new Promise((resolve, reject) => {
      const cancelKill = clock.after(READY_MS_MAX, () => this.kill())
      child.on('message', (message) => {
        if ('ready' in (message as FromWorker)) {
          cancelKill()
          this.wasReady = true
          if (this.currentState === 'starting') this.currentState = 'ready'
          resolve()
        } else this.onMessage(message as FromWorker)
      })
      void this.ended.then((reason) => {
        cancelKill()
        reject(new Error(`worker ${index} ended before it was ready: ${reason}`))
      })
    })
    // Prevents an unhandled rejection if no caller waits for `ready`; `ended` tells the same.
    this.ready.catch(() => undefined)
  }

  get state(): ChildState {
    return this.currentState
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /** Rejects if the worker ends or does not answer in time. */
  ask<Q extends Question>(question: Q): Promise<Answers[Q]> {
    const id = ++this.lastQuestionId
    return new Promise((resolve, reject) => {
      const cancelTimeout = this.clock.after(ANSWER_MS_MAX, () =>
        settle(() => reject(new Error('the worker did not answer in time'))),
      )
      const settle = (finish: () => void) => {
        cancelTimeout()
        this.openQuestions.delete(id)
        finish()
      }
      this.openQuestions.set(id, {
        resolve: (value) => {
          if (question === 'metrics') this.lastSnapshot = value as MetricsSnapshot
          settle(() => resolve(value as Answers[Q]))
        },
        reject: (error) => settle(() => reject(error)),
      })
      if (!this.send({ ask: question, id })) this.openQuestions.get(id)?.reject(new Error('the worker has ended'))
    })
  }

  /** Asks the worker to leave and resolves when it is gone. A worker that does not end in time is killed. */
  async drain(pace: DrainPace): Promise<void> {
    if (this.currentState === 'ended') return
    const wasStarting = this.currentState === 'starting'
    this.currentState = 'draining'
    // A starting worker has no devices to drain. A ready one gets a message and no signal: Ctrl-C sends SIGINT to the
    // worker too, and it takes a second signal as an order to end at once.
    if (wasStarting || !this.send({ drain: pace })) this.child.kill('SIGTERM')
    const cancelKill = this.clock.after(drainMsMax(pace) + KILL_MARGIN_MS, () => this.kill())
    await this.ended
    cancelKill()
  }

  setListening(isListening: boolean): void {
    this.send({ listen: isListening })
  }

  /** Tells a worker that leaves how many devices the other workers of the instance have. */
  sendDevicesElsewhere(devices: number): void {
    this.send({ devicesElsewhere: devices })
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }

  private send(message: ToWorker): boolean {
    if (this.currentState === 'ended' || !this.child.connected) return false
    // A failed send is ignored: it means that the process ends, and `ended` follows.
    this.child.send(message, () => undefined)
    return true
  }

  private onMessage(message: FromWorker): void {
    if ('finalMetrics' in message) this.lastSnapshot = message.finalMetrics
    if (!('answer' in message)) return
    const question = this.openQuestions.get(message.answer)
    if ('failed' in message) question?.reject(new Error(message.failed))
    else question?.resolve(message.value)
  }

  private onEnded(reason: string): void {
    this.currentState = 'ended'
    for (const { reject } of [...this.openQuestions.values()]) reject(new Error(`the worker ended: ${reason}`))
  }
}
