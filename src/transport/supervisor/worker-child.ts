/** One worker process as its supervisor sees it: started, ready, leaving, gone. */
import type { ChildProcess } from 'node:child_process'
import type { Clock } from '../../clock.js'
import type { MetricsSnapshot } from '../../observe/merge.js'
import { type DrainPace, drainMsMax } from '../upkeep/drain.js'
import type { Answers, FromWorker, Question, ToWorker } from './ipc.js'

export type ChildState = 'starting' | 'ready' | 'draining' | 'ended'

/** A process that says nothing for so long will say nothing. On a machine that has no time for it, ending it would only begin its start anew. */
const READY_MS_MAX = 180_000
const ANSWER_MS_MAX = 5_000
/** Beyond its own pace, until a worker that does not end is killed. */
const KILL_MARGIN_MS = 5_000

export class WorkerChild {
  /** Rejects where it ends before, or is not ready in time (then it is killed). */
  readonly ready: Promise<void>
  /** Resolves with how it ended. */
  readonly ended: Promise<string>
  readonly startedAtMs: number
  /** It was of use once. */
  wasReady = false
  /** What it counted, as far as it told; null: it never did. */
  lastSnapshot: MetricsSnapshot | null = null
  private stage: ChildState = 'starting'
  private questions = 0
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()

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
    void this.ended.then((why) => this.gone(why))
    this.ready = new Promise((resolve, reject) => {
      const cancel = clock.after(READY_MS_MAX, () => this.kill())
      child.on('message', (message) => {
        if ('ready' in (message as FromWorker)) {
          cancel()
          this.wasReady = true
          if (this.stage === 'starting') this.stage = 'ready'
          resolve()
        } else this.answered(message as FromWorker)
      })
      void this.ended.then((why) => {
        cancel()
        reject(new Error(`worker ${index} ended before it was ready: ${why}`))
      })
    })
    // Whoever waits for it hears of it; where nobody does, `ended` tells enough.
    this.ready.catch(() => undefined)
  }

  get state(): ChildState {
    return this.stage
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /** Rejects where the worker ends, or does not answer in time. */
  ask<Q extends Question>(question: Q): Promise<Answers[Q]> {
    const id = ++this.questions
    return new Promise((resolve, reject) => {
      const cancel = this.clock.after(ANSWER_MS_MAX, () => settle(() => reject(new Error('no answer in time'))))
      const settle = (finish: () => void) => {
        cancel()
        this.waiting.delete(id)
        finish()
      }
      this.waiting.set(id, {
        resolve: (value) => {
          if (question === 'metrics') this.lastSnapshot = value as MetricsSnapshot
          settle(() => resolve(value as Answers[Q]))
        },
        reject: (error) => settle(() => reject(error)),
      })
      if (!this.send({ ask: question, id })) this.waiting.get(id)?.reject(new Error('the worker is gone'))
    })
  }

  /** Has it leave, and resolves when it is gone; one that does not end by itself is killed. */
  async drain(pace: DrainPace): Promise<void> {
    if (this.stage === 'ended') return
    const wasStarting = this.stage === 'starting'
    this.stage = 'draining'
    // What is only starting has nobody to wait for. A message, not a signal: a worker that got Ctrl-C together with us
    // takes a second signal as an order to end at once.
    if (wasStarting || !this.send({ drain: pace })) this.child.kill('SIGTERM')
    const cancelKill = this.clock.after(drainMsMax(pace) + KILL_MARGIN_MS, () => this.kill())
    await this.ended
    cancelKill()
  }

  accept(isOpen: boolean): void {
    this.send({ accept: isOpen })
  }

  /** So many devices the other workers of the instance have. */
  elsewhere(devices: number): void {
    this.send({ elsewhere: devices })
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }

  private send(message: ToWorker): boolean {
    if (this.stage === 'ended' || !this.child.connected) return false
    // An error comes with the end of the process, which is heard anyway.
    this.child.send(message, () => undefined)
    return true
  }

  private answered(message: FromWorker): void {
    if ('finalMetrics' in message) this.lastSnapshot = message.finalMetrics
    if (!('answer' in message)) return
    const waiting = this.waiting.get(message.answer)
    if ('failed' in message) waiting?.reject(new Error(message.failed))
    else waiting?.resolve(message.value)
  }

  private gone(why: string): void {
    this.stage = 'ended'
    for (const { reject } of [...this.waiting.values()]) reject(new Error(`the worker ended: ${why}`))
  }
}
