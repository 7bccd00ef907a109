/**
 * A slot is one worker index of an instance. It holds the process that serves, a process that leaves, a process that
 * is to take over, or waits to start the next one after a crash.
 */
import type { ChildProcess } from 'node:child_process'
import type { Clock } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import type { DrainPace } from '../upkeep/drain.js'
import { WorkerChild } from './worker-child.js'

export interface SlotOptions {
  clock: Clock
  random: () => number
  log: Logger
  restartBackoffMs: number
  /** Starts the process of a worker, with an IPC channel (ipc.ts). It listens on `port`, as one of `workers`. */
  spawn: (index: number, port: number, workers: number) => ChildProcess
  /** A worker has ended, for whatever reason. */
  onEnded: (child: WorkerChild) => void
}

const BACKOFF_DOUBLINGS_MAX = 5
/** A worker that has lived this long makes the backoff start again. */
const STABLE_MS = 60_000

export class Slot {
  /** The worker that serves or starts; null while the slot waits for the next start. */
  private current: WorkerChild | null = null
  /** The worker that starts in order to replace `current`. */
  private next: WorkerChild | null = null
  private readonly leaving = new Set<WorkerChild>()
  /** Crashes that the backoff counts. */
  private failures = 0
  private crashCount = 0
  private isStopping = false
  private cancelRestart: (() => void) | null = null

  constructor(
    readonly index: number,
    private readonly port: number,
    private readonly options: SlotOptions,
    /** The number of workers of the instance. */
    private readonly workers = 1,
  ) {}

  /** Resolves when the worker is ready. Rejects if it ends before. */
  async start(): Promise<void> {
    this.current = this.launch()
    await this.current.ready
  }

  get isServing(): boolean {
    return this.current?.state === 'ready'
  }

  /** How many workers of this slot have crashed. */
  get crashes(): number {
    return this.crashCount
  }

  children(): WorkerChild[] {
    return [...this.leaving, this.current, this.next].filter((child) => child !== null)
  }

  /**
   * Replaces the worker by a new one. The new one listens before the old one is asked to leave, so that the port is
   * never without a listener. Resolves when the old one is gone. Rejects if the new one does not start; then the old
   * one stays.
   * @param beforeLeave runs after the new one is ready and before the old one is asked to leave.
   */
  async replace(pace: DrainPace, beforeLeave = async () => {}): Promise<void> {
    this.cancelRestart?.()
    let next: WorkerChild
    try {
      next = this.launch()
      this.next = next
      await next.ready
    } catch (error) {
      this.next = null
      if (this.current === null && !this.isStopping) this.restartLater(0)
      throw error
    }
    const old = this.current
    this.next = null
    this.current = next
    if (!old) return
    this.leaving.add(old)
    await beforeLeave()
    await this.leave(old, pace)
  }

  async stop(pace: DrainPace): Promise<void> {
    this.isStopping = true
    this.cancelRestart?.()
    await Promise.all(this.children().map((child) => (this.leaving.has(child) ? child.ended : this.leave(child, pace))))
  }

  private async leave(child: WorkerChild, pace: DrainPace): Promise<void> {
    this.leaving.add(child)
    if (this.current === child) this.current = null
    if (this.next === child) this.next = null
    await child.drain(pace)
    this.leaving.delete(child)
  }

  private launch(): WorkerChild {
    const { clock, spawn } = this.options
    const child = new WorkerChild(this.index, spawn(this.index, this.port, this.workers), clock)
    void child.ended.then((reason) => this.onEnded(child, reason))
    return child
  }

  private onEnded(child: WorkerChild, reason: string): void {
    this.options.onEnded(child)
    if (this.isStopping || this.leaving.has(child)) return
    const { clock, log } = this.options
    log.error({ worker: this.index, pid: child.pid, reason }, 'a worker ended')
    // If the child was `next`, replace() rejects and handles it.
    if (this.current !== child) return
    this.crashCount++
    this.current = null
    // No restart while a replacement starts. And none for the first worker of the slot if it was never ready: the
    // cause is then probably the configuration, and start() rejects.
    if (this.next === null && (child.wasReady || this.failures > 0)) this.restartLater(clock.now() - child.startedAtMs)
  }

  /**
   * Restarts at once after a first crash, because only the devices of this worker wait. Further crashes have a
   * backoff.
   */
  private restartLater(livedMs: number): void {
    const { clock, random, restartBackoffMs } = this.options
    if (livedMs > STABLE_MS) this.failures = 0
    const doublings = Math.min(this.failures++ - 1, BACKOFF_DOUBLINGS_MAX)
    const ceilingMs = doublings < 0 ? 0 : restartBackoffMs * 2 ** doublings
    this.cancelRestart = clock.after(ceilingMs * (0.5 + random() / 2), () => this.restart())
  }

  private restart(): void {
    const { log } = this.options
    let child: WorkerChild
    try {
      child = this.launch()
    } catch (error) {
      // Without a process no `ended` event schedules the next attempt. The system lacks memory or processes.
      log.error({ worker: this.index, error }, 'a worker process could not be started')
      this.restartLater(0)
      return
    }
    this.current = child
    child.ready.then(
      () => log.info({ worker: this.index }, 'a worker is ready again'),
      // onEnded() has logged the end and scheduled the next attempt.
      () => undefined,
    )
  }
}
