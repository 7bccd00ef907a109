/**
 * One transport instance: a supervisor and W worker processes that share one port.
 *
 * The room `supervisor` has the processes of an instance: slots with their worker processes (slot.ts, worker-child.ts,
 * worker-process.ts), the messages between them (ipc.ts), the rolling restart, the admin port, and the metrics.
 *
 * A worker that crashes is started again. Its devices, a W-th of all, connect to workers with room. A rolling restart
 * replaces one worker after the other, so that at no time fewer than W workers serve.
 */

import { createServer } from 'node:net'
import { type Clock, sleep } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import { processesAtOnce } from '../../processors.js'
import { connectionsCap } from '../admission/descriptors.js'
import type { TransportSettings } from '../settings.js'
import { checkTlsFiles } from '../socket/tls-files.js'
import { drainPace } from '../upkeep/drain.js'
import type { InstanceMetrics } from './instance-metrics.js'
import type { InstanceState, InstanceStatus, RestartProgress, WorkerStatus } from './instance-status.js'
import { RollingRestart } from './rolling-restart.js'
import { Slot, type SlotOptions } from './slot.js'
import type { WorkerChild } from './worker-child.js'

const DRAIN_LOG_MS = 2_000

/** The kernel spreads connections unevenly over the workers, so they get this much room. */
const ROOM = 1.15

export interface SupervisorOptions extends Pick<SlotOptions, 'clock' | 'random' | 'log' | 'spawn'> {
  settings: TransportSettings
  /** Watches the instance, and gets the last counts of each worker that ends. */
  metrics?: InstanceMetrics
}

/** Rejects if the port is in use or a worker does not start. */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const { settings, clock, random, log, spawn, metrics } = options
  const port = await freePort(settings.host, settings.port)
  const count = workerCount(settings, processesAtOnce(), connectionsCap(settings.connectionsMax))
  const slotOptions: SlotOptions = {
    clock,
    random,
    log,
    spawn,
    restartBackoffMs: settings.restartBackoffMs,
    onEnded: (child) => metrics?.ended(child),
  }
  const slots = Array.from({ length: count }, (_, index) => new Slot(index, port, slotOptions, count))
  try {
    await Promise.all(slots.map((slot) => slot.start()))
  } catch (error) {
    await Promise.all(slots.map((slot) => slot.stop(drainPace(settings, 'shutdown'))))
    throw error
  }
  const supervisor = new Supervisor(port, slots, settings, clock, log)
  metrics?.watch(supervisor)
  return supervisor
}

/** A worker that leaves accepts no devices and may end before it answers. */
const isStaying = ({ state }: WorkerChild) => state === 'starting' || state === 'ready'

async function reloadOne(child: WorkerChild): Promise<void> {
  try {
    // A starting worker may have read the old files already, so it is asked once it is ready.
    if (child.state === 'starting') await child.ready
    await child.ask('reload')
  } catch (error) {
    // The failure does not count if the worker has left meanwhile: its replacement reads the new files.
    if (isStaying(child)) throw error
  }
}

/** One worker for each core, or as many as the target of connections needs, with room and one worker to spare. */
export function workerCount(settings: TransportSettings, cores: number, connectionsMax: number): number {
  if (settings.workers > 0) return settings.workers
  return Math.max(cores, Math.ceil((ROOM * settings.connectionsTarget) / connectionsMax) + 1)
}

/**
 * Checks that no other process listens on the port, because uWebSockets.js would share the port with it without an
 * error. Returns the port; for 0 one that is free.
 */
export function freePort(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (cause) => {
      reject(new Error(`cannot listen on ${host}:${port}: ${(cause as NodeJS.ErrnoException).code}`, { cause }))
    })
    probe.listen({ host, port, exclusive: true }, () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : port))
    })
  })
}

export class Supervisor {
  private restart: RestartProgress | null = null
  private restarting: Promise<void> = Promise.resolve()
  private stopping: Promise<void> | null = null

  constructor(
    readonly port: number,
    private readonly slots: readonly Slot[],
    private readonly settings: TransportSettings,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  get workers(): number {
    return this.slots.length
  }

  /** How many workers have crashed. */
  get crashes(): number {
    return this.slots.reduce((sum, { crashes }) => sum + crashes, 0)
  }

  get state(): InstanceState {
    return this.stopping ? 'draining' : 'serving'
  }

  /** True if the instance accepts new devices: it is not draining, and a worker serves. */
  get isReady(): boolean {
    return this.stopping === null && this.slots.some((slot) => slot.isServing)
  }

  children(): WorkerChild[] {
    return this.slots.flatMap((slot) => slot.children())
  }

  async status(): Promise<InstanceStatus> {
    const workers = await Promise.all(
      this.slots.flatMap((slot) => slot.children().map((child) => this.statusOf(child, slot.crashes))),
    )
    const { instance } = this.settings
    return { instance, port: this.port, state: this.state, ready: this.isReady, workers, restart: this.restart }
  }

  /**
   * Begins to replace all workers, one after the other. Returns the progress, which is updated as it goes. Null if a
   * restart is under way or the instance is draining.
   */
  rollingRestart(): RestartProgress | null {
    if (this.stopping || this.restart?.state === 'running') return null
    const progress: RestartProgress = {
      state: 'running',
      done: 0,
      total: this.slots.length,
      startedAtMs: this.clock.now(),
      endedAtMs: 0,
      reason: '',
    }
    this.restart = progress
    this.restarting = this.replaceAll(progress)
    return progress
  }

  /** Resolves when the present rolling restart has ended or failed; at once if none is under way. */
  restarted(): Promise<void> {
    return this.restarting
  }

  /**
   * Has every worker that stays read its keys and certificate again. Connections stay. Rejects if the files are
   * invalid; then nothing has changed.
   */
  async reload(): Promise<void> {
    // Checked here first, so that not one worker has the new certificate while another cannot use it.
    checkTlsFiles(this.settings)
    await Promise.all(
      this.children()
        .filter(isStaying)
        .map((child) => reloadOne(child)),
    )
    this.log.info({ workers: this.workers }, 'keys and certificates were read again')
  }

  /** Drains all workers at the same time, and kills those that do not end. */
  stop(): Promise<void> {
    this.stopping ??= this.drainAll()
    return this.stopping
  }

  private async replaceAll(progress: RestartProgress): Promise<void> {
    const { log, clock, slots, settings } = this
    const pace = drainPace(settings, 'upgrade')
    log.info({ workers: slots.length }, 'rolling restart: begins')
    try {
      await new RollingRestart(slots, clock, pace).run((slot) => {
        progress.done++
        log.info({ worker: slot.index, done: progress.done, total: slots.length }, 'rolling restart: replaced')
        if (this.stopping) throw new Error('the instance is draining')
      })
      progress.state = 'done'
      log.info({ seconds: (clock.now() - progress.startedAtMs) / 1000 }, 'rolling restart: done')
    } catch (error) {
      progress.state = 'failed'
      progress.reason = error instanceof Error ? error.message : String(error)
      log.error({ error, done: progress.done, total: slots.length }, 'rolling restart: given up')
    }
    progress.endedAtMs = clock.now()
  }

  private async drainAll(): Promise<void> {
    const { settings, clock, log, slots } = this
    log.info({ workers: slots.length, drainMs: settings.drainMs }, 'drain: begins')
    // The instance is not ready but still serves, until the load balancer has noticed.
    if (settings.drainDelayMs > 0) await sleep(clock, settings.drainDelayMs)
    const cancelLog = this.logDrain()
    await Promise.all(slots.map((slot) => slot.stop(drainPace(settings, 'shutdown'))))
    cancelLog()
    log.info('drain: done')
  }

  /** Logs a line about the drain every few seconds. Returns a function that ends it. */
  private logDrain(): () => void {
    let cancel = () => {}
    const next = () => {
      cancel = this.clock.after(DRAIN_LOG_MS, () => {
        next()
        void this.status().then(({ workers }) => {
          const devices = workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0)
          this.log.info({ workers: workers.length, devices }, 'drain: workers and devices that have not left yet')
        })
      })
    }
    next()
    return () => cancel()
  }

  private async statusOf(child: WorkerChild, crashed: number): Promise<WorkerStatus> {
    const { index, pid, state, startedAtMs } = child
    const levels = state === 'starting' ? null : await child.ask('levels').catch(() => null)
    return { index, pid, state, startedAtMs, crashed, levels }
  }
}
