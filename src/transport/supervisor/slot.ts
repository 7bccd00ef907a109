/** The place of one worker in its instance: the process that serves it, one that leaves it, or the wait for the next. */
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
  /** Starts the process of a worker, with an IPC channel (ipc.ts). It listens on `port`, as one of so many. */
  spawn: (index: number, port: number, workers: number) => ChildProcess
  /** A worker ended, in whatever way. */
  onEnded: (child: WorkerChild) => void
}

const BACKOFF_DOUBLINGS_MAX = 5
/** A worker that lived so long has earned a short backoff again. */
const STABLE_MS = 60_000

export class Slot {
  /** Who serves, or is on the way to it; null while the next start is waited for. */
  private current: WorkerChild | null = null
  /** Who is to take its place, while it starts. */
  private next: WorkerChild | null = null
  private readonly leaving = new Set<WorkerChild>()
  private failures = 0
  private crashes = 0
  private isStopping = false
  private cancelRestart: (() => void) | null = null

  constructor(
    readonly index: number,
    private readonly port: number,
    private readonly options: SlotOptions,
    /** Of the instance. */
    private readonly workers = 1,
  ) {}

  /** Resolves when the worker is ready; rejects where it ends before. */
  async start(): Promise<void> {
    this.current = this.launch()
    await this.current.ready
  }

  get isServing(): boolean {
    return this.current?.state === 'ready'
  }

  /** How often its worker ended unasked. */
  get crashed(): number {
    return this.crashes
  }

  children(): WorkerChild[] {
    return [...this.leaving, this.current, this.next].filter((child) => child !== null)
  }

  /**
   * A new worker in place of this one: the new one listens before the old one is asked to leave, so that somebody always
   * does. Resolves when the old one is gone. Rejects where the new one does not start; then the old one goes on.
   * @param beforeLeave between the two.
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
    void child.ended.then((why) => this.ended(child, why))
    return child
  }

  private ended(child: WorkerChild, why: string): void {
    this.options.onEnded(child)
    if (this.isStopping || this.leaving.has(child)) return
    const { clock, log } = this.options
    log.error({ worker: this.index, pid: child.pid, why }, 'a worker ended')
    // The one that was to take over: replace() tells.
    if (this.current !== child) return
    this.crashes++
    this.current = null
    // While it is being replaced the new one is on its way. One that never worked and is the first of its place is a
    // mistake of the set-up, of which start() tells.
    if (this.next === null && (child.wasReady || this.failures > 0)) this.restartLater(clock.now() - child.startedAtMs)
  }

  /** At once after a first crash: only its own devices are waiting. Then with backoff. */
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
      // No process, so no end of one that would lead to the next attempt: the system is short of something.
      log.error({ worker: this.index, error }, 'a worker could not be started')
      this.restartLater(0)
      return
    }
    this.current = child
    child.ready.then(
      () => log.info({ worker: this.index }, 'a worker is back'),
      // Its end was logged, and the next attempt is under way.
      () => undefined,
    )
  }
}
