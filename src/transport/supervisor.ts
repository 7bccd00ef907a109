/**
 * One transport instance: W worker processes that share one port. A worker that crashes is started again, with backoff;
 * a crash loses one worker's share of the devices, which come back to whoever has room.
 */
import type { ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import { cpus } from 'node:os'
import type { Clock } from '../clock.js'
import type { Logger } from '../observe/log.js'
import { connectionsCap } from './descriptors.js'
import type { TransportSettings } from './settings.js'

export interface SupervisorOptions {
  settings: TransportSettings
  clock: Clock
  random: () => number
  log: Logger
  /**
   * Starts the process of a worker, with an IPC channel. It says `{ready: ...}` once devices can connect, and drains
   * when the channel closes, or at SIGTERM. It listens on `port`.
   */
  spawn: (index: number, port: number) => ChildProcess
}

export interface Supervisor {
  readonly port: number
  readonly workers: number
  /** Drains all workers at once; ends those that do not end by themselves. */
  stop(): Promise<void>
}

const BACKOFF_DOUBLINGS_MAX = 5
/** A worker that lived so long has earned a short backoff again. */
const STABLE_MS = 60_000
/** Beyond drain and grace, until a worker that does not end is killed. */
const KILL_MARGIN_MS = 5_000

/** Rejects where the port is taken, or a worker does not start. */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const { settings } = options
  const port = await freePort(settings.host, settings.port)
  const count = workerCount(settings, cpus().length, connectionsCap(settings.connectionsMax))
  const slots = Array.from({ length: count }, (_, index) => new Slot(index, port, options))
  try {
    await Promise.all(slots.map((slot) => slot.start()))
  } catch (error) {
    await Promise.all(slots.map((slot) => slot.stop()))
    throw error
  }
  return {
    port,
    workers: count,
    stop: async () => {
      await Promise.all(slots.map((slot) => slot.stop()))
    },
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

/** The place of one worker: its process now, or the wait for the next one. */
class Slot {
  private child: ChildProcess | null = null
  private exited: Promise<void> = Promise.resolve()
  private failures = 0
  private stopping = false
  private cancelRestart: (() => void) | null = null

  constructor(
    private readonly index: number,
    private readonly port: number,
    private readonly options: SupervisorOptions,
  ) {}

  /** Resolves when the worker is ready; rejects where it ends before. */
  start(): Promise<void> {
    const { clock, log, spawn } = this.options
    const child = spawn(this.index, this.port)
    const startedAtMs = clock.now()
    this.child = child
    return new Promise((resolve, reject) => {
      let isReady = false
      child.on('message', (message: unknown) => {
        if (typeof message !== 'object' || message === null || !('ready' in message)) return
        isReady = true
        resolve()
      })
      this.exited = new Promise((ended) => {
        const end = (why: string) => {
          if (this.child === child) this.child = null
          ended()
          if (this.stopping) return
          log.error({ worker: this.index, why }, 'a worker ended')
          if (isReady || this.failures > 0) this.restartLater(clock.now() - startedAtMs)
          reject(new Error(`worker ${this.index} ended before it was ready: ${why}`))
        }
        child.once('error', (error) => end(error.message))
        child.once('exit', (code, signal) => end(signal ?? `code ${code}`))
      })
    })
  }

  async stop(): Promise<void> {
    this.stopping = true
    this.cancelRestart?.()
    const { child } = this
    if (!child) return
    const { clock, settings } = this.options
    // Not a signal: a worker that got Ctrl-C together with us takes a second one as an order to end at once.
    if (child.connected) child.disconnect()
    else child.kill('SIGTERM')
    const patienceMs = settings.drainMs + 2 * settings.drainGraceMs + KILL_MARGIN_MS
    const cancelKill = clock.after(patienceMs, () => child.kill('SIGKILL'))
    await this.exited
    cancelKill()
  }

  private restartLater(livedMs: number): void {
    const { clock, random, settings, log } = this.options
    if (livedMs > STABLE_MS) this.failures = 0
    const ceilingMs = settings.restartBackoffMs * 2 ** Math.min(this.failures++, BACKOFF_DOUBLINGS_MAX)
    this.cancelRestart = clock.after(ceilingMs * (0.5 + random() / 2), () => {
      this.start().then(
        () => log.info({ worker: this.index }, 'a worker is back'),
        // Its end was logged, and the next attempt is under way.
        () => undefined,
      )
    })
  }
}
