/**
 * One transport instance: W worker processes that share one port. A worker that crashes is started again; a crash loses
 * one worker's share of the devices, which come back to whoever has room. A rolling restart replaces one worker after
 * another, so that no moment has fewer than W of them.
 */
import { createServer } from 'node:net'
import { cpus } from 'node:os'
import { type Clock, sleep } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import { connectionsCap } from '../admission/descriptors.js'
import type { TransportSettings } from '../settings.js'
import { checkTlsFiles } from '../socket/tls-files.js'
import { drainPace } from '../upkeep/drain.js'
import type { InstanceMetrics } from './instance-metrics.js'
import type { InstanceState, InstanceStatus, RestartProgress, WorkerStatus } from './instance-status.js'
import { RollingRestart } from './rolling-restart.js'
import { Slot, type SlotOptions } from './slot.js'
import type { WorkerChild } from './worker-child.js'

const DRAIN_REPORT_MS = 2_000

export interface SupervisorOptions extends Pick<SlotOptions, 'clock' | 'random' | 'log' | 'spawn'> {
  settings: TransportSettings
  /** Told of the instance, and of every worker that ends. */
  metrics?: InstanceMetrics
}

/** Rejects where the port is taken, or a worker does not start. */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const { settings } = options
  const port = await freePort(settings.host, settings.port)
  const count = workerCount(settings, cpus().length, connectionsCap(settings.connectionsMax))
  const { restartBackoffMs } = settings
  const { metrics } = options
  const ofSlot = { ...options, restartBackoffMs, onEnded: (child: WorkerChild) => metrics?.ended(child) }
  const slots = Array.from({ length: count }, (_, index) => new Slot(index, port, ofSlot, count))
  try {
    await Promise.all(slots.map((slot) => slot.start()))
  } catch (error) {
    await Promise.all(slots.map((slot) => slot.stop(drainPace(settings, 'shutdown'))))
    throw error
  }
  const supervisor = new Supervisor(port, slots, settings, options.clock, options.log)
  metrics?.watch(supervisor)
  return supervisor
}

/** Neither leaving nor gone: such a worker welcomes nobody any more, and may end before it answers. */
const staysOn = ({ state }: WorkerChild) => state === 'starting' || state === 'ready'

async function reloadOne(child: WorkerChild): Promise<void> {
  try {
    // One that starts may have read the old files already.
    if (child.state === 'starting') await child.ready
    await child.ask('reload')
  } catch (error) {
    // It left meanwhile; whoever takes its place begins with the new files.
    if (staysOn(child)) throw error
  }
}

/** The kernel spreads connections by hash, unevenly: 15% of room, and one worker to spare. */
export function workerCount(settings: TransportSettings, cores: number, cap: number): number {
  if (settings.workers > 0) return settings.workers
  return Math.max(cores, Math.ceil((1.15 * settings.connectionsTarget) / cap) + 1)
}

/**
 * The port, once it is known that nobody else listens on it: uWebSockets.js would share it with a stranger without a
 * word. 0: one that is free.
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

  /** How often workers ended unasked. */
  get crashes(): number {
    return this.slots.reduce((sum, { crashed }) => sum + crashed, 0)
  }

  get state(): InstanceState {
    return this.stopping ? 'draining' : 'serving'
  }

  /** New devices are welcome: not draining, and somebody listens. */
  get isReady(): boolean {
    return this.stopping === null && this.slots.some((slot) => slot.isServing)
  }

  children(): WorkerChild[] {
    return this.slots.flatMap((slot) => slot.children())
  }

  async status(): Promise<InstanceStatus> {
    const workers = await Promise.all(
      this.slots.flatMap((slot) => slot.children().map((child) => this.statusOf(child, slot.crashed))),
    )
    const { instance } = this.settings
    return { instance, port: this.port, state: this.state, ready: this.isReady, workers, restart: this.restart }
  }

  /**
   * Begins to replace all workers, one after the other, and gives how it stands. Null where that is out of place: a
   * restart is under way, or the instance leaves.
   */
  rollingRestart(): RestartProgress | null {
    if (this.stopping || this.restart?.state === 'running') return null
    const { slots, clock } = this
    const progress: RestartProgress = {
      ...{ state: 'running', done: 0, total: slots.length, startedAtMs: clock.now(), endedAtMs: 0, reason: '' },
    }
    this.restart = progress
    this.restarting = this.replaceAll(progress)
    return progress
  }

  /** Resolves when the rolling restart of now, if there is one, has ended in whatever way. */
  restarted(): Promise<void> {
    return this.restarting
  }

  /**
   * Has every worker read its keys and certificate anew, but those that leave; connections stay. Rejects, and nothing
   * changes, where the files are no good.
   */
  async reload(): Promise<void> {
    // Looked at here first, so that no worker has the new one while another cannot.
    checkTlsFiles(this.settings)
    await Promise.all(
      this.children()
        .filter(staysOn)
        .map((child) => reloadOne(child)),
    )
    this.log.info({ workers: this.workers }, 'keys and certificates: read anew')
  }

  /** Drains all workers at once; ends those that do not end by themselves. */
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
        if (this.stopping) throw new Error('the instance leaves')
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
    // Not ready any more, and still serving: a load balancer needs a moment to see it.
    if (settings.drainDelayMs > 0) await sleep(clock, settings.drainDelayMs)
    const cancelReport = this.reportDrain()
    await Promise.all(slots.map((slot) => slot.stop(drainPace(settings, 'shutdown'))))
    cancelReport()
    log.info('drain: done')
  }

  /** A admissionQueue every few seconds; returns what ends them. */
  private reportDrain(): () => void {
    let cancel = () => {}
    const next = () => {
      cancel = this.clock.after(DRAIN_REPORT_MS, () => {
        next()
        void this.status().then(({ workers }) => {
          const devices = workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0)
          this.log.info({ workers: workers.length, devices }, 'drain: still to go')
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
