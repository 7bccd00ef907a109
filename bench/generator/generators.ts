/** Controls all generator processes together. Each process simulates a share of the devices. */
import type { Histogram } from 'hdr-histogram-js'
import { mergeHistograms } from '../measure/latency.js'
import { nowMicros } from '../micros.js'
import type { Progress } from '../progress.js'
import type { Counts, GeneratorMethods } from './child.js'
import type { Behaviour, DialectConfig } from './dialect.js'
import { newArea } from './identity.js'
import { Pace } from './pace.js'
import { Child } from './rpc.js'
import type { SwarmConfig } from './swarm.js'
import { sumReports } from './tally.js'

/** A process may open 20,000 files on the reference machine. */
export const CONNECTIONS_PER_GENERATOR = 18_000

export interface GeneratorsOptions {
  target: Pick<SwarmConfig, 'host' | 'port' | 'path'>
  dialect: DialectConfig
  connections: number
  /** Least number of processes; default 1. */
  processes?: number
  keepaliveMs: number
  /** Number of the first device; default 0. */
  first?: number
}

export interface Ramp {
  count: number
  /** New connections a second of all generators together; 0: as fast as possible. */
  perSecond?: number
  /** Most handshakes in progress at a time, of all generators together. */
  inFlightMax?: number
  /** Number of processes that ramp at a time; default: all. The others wait their turn. */
  atATime?: number
  label?: string
  /** Polled several times a second. True ends the ramp at its current size. */
  shouldStop?(): boolean
}

/** The connected devices of one process: the first ones of its share. */
export interface Range {
  first: number
  count: number
}

export interface Ramped {
  seconds: number
  startMicros: number
  endMicros: number
}

/** A small young generation, because there may be dozens of these processes; gc() is called after a ramp. */
const NODE_OPTIONS = ['--max-semi-space-size=2', '--expose-gc']

const IN_FLIGHT_MAX = 512
/** With dozens of processes on few cores each waits for its turn, so it needs enough work for that turn. */
const IN_FLIGHT_PER_PROCESS = 32
const POLL_MS = 100
/** A poll costs each process some CPU, so more processes are polled less often. */
const POLL_MS_PER_PROCESS = 10
/** A ramp fails if no device becomes ready for this long. */
const STALLED_MS = 60_000

export type Totals = ReturnType<typeof sumReports> & { latency: Histogram; handshake: Histogram }

export class Generators {
  private constructor(
    private readonly children: readonly Child<GeneratorMethods>[],
    private readonly shares: readonly number[],
    private readonly first: number,
    private readonly progress: Progress,
  ) {}

  static async start(options: GeneratorsOptions, progress: Progress): Promise<Generators> {
    const { connections, first = 0 } = options
    const processes = Math.max(options.processes ?? 1, Math.ceil(connections / CONNECTIONS_PER_GENERATOR))
    const shares = split(connections, processes)
    const children = shares.map((_, i) =>
      Child.start<GeneratorMethods>(`generator ${i}`, new URL('./child.js', import.meta.url), NODE_OPTIONS),
    )
    const generators = new Generators(children, shares, first, progress)
    try {
      await generators.#configure(options)
    } catch (error) {
      await generators.stop()
      throw error
    }
    return generators
  }

  get pids(): number[] {
    return this.children.map(({ pid }) => pid)
  }

  /** Number of devices of all processes together. */
  get connections(): number {
    return this.shares.reduce((sum, share) => sum + share, 0)
  }

  async #configure({ target, dialect, keepaliveMs }: GeneratorsOptions): Promise<void> {
    let next = this.first
    const area = newArea()
    await Promise.all(
      this.children.map((child, i) => {
        const count = this.shares[i] as number
        const config = { ...target, first: next, count, area, keepaliveMs }
        next += count
        return child.call('configure', { config, dialect })
      }),
    )
  }

  async prepare(): Promise<void> {
    await this.#all((child) => child.call('prepare', undefined as never))
  }

  async behave(behaviour: Partial<Behaviour>): Promise<void> {
    await this.#all((child) => child.call('behave', behaviour))
  }

  /** Connects `count` more devices. Resolves when they are ready, or when `shouldStop` ended the ramp. */
  async ramp({
    count,
    perSecond = 0,
    atATime = this.children.length,
    inFlightMax = Math.max(IN_FLIGHT_MAX, IN_FLIGHT_PER_PROCESS * Math.min(atATime, this.children.length)),
    label = 'devices',
    shouldStop,
  }: Ramp): Promise<Ramped> {
    const total = this.connections
    const startMicros = nowMicros()
    const counts = apportion(count, this.shares)
    // With a rate, all processes ramp at the same time, each with its share of the rate.
    const lanes = perSecond > 0 ? this.children.length : Math.min(atATime, this.children.length)
    const waiting = this.children.entries()
    let isHalted = false
    const lane = async (): Promise<void> => {
      for (const [i, child] of waiting) {
        if (isHalted) return
        await child.call('ramp', {
          count: counts[i] as number,
          perSecond: (perSecond * (this.shares[i] as number)) / total,
          inFlightMax: Math.max(1, Math.ceil(inFlightMax / lanes)),
        })
      }
    }
    const pace = new Pace(total)
    await this.#watch(Promise.all(Array.from({ length: lanes }, lane)), async ({ ready }) => {
      this.progress.bar(`${label}${pace.text(ready)}`, ready, total)
      if (!shouldStop?.()) return
      isHalted = true
      await this.#all((child) => child.call('halt', undefined as never))
    })
    const endMicros = nowMicros()
    this.progress.done()
    return { seconds: (endMicros - startMicros) / 1e6, startMicros, endMicros }
  }

  /** The connected devices, provided that none left: each process connects the first ones of its share. */
  async ranges(): Promise<Range[]> {
    const counts = await this.#all((child) => child.call('counts', undefined as never))
    let first = this.first
    return counts.map(({ ready }, i) => {
      const range = { first, count: ready }
      first += this.shares[i] as number
      return range
    })
  }

  /** Resolves with true when `count` devices are ready, and with false after the time-out. */
  async untilReady(count: number, onCounts: (ready: number) => void, timeoutMs: number): Promise<boolean> {
    return this.until(
      (counts) => counts.ready >= count,
      timeoutMs,
      ({ ready }) => onCounts(ready),
    )
  }

  /** Polls the counts. Resolves with true when they satisfy `reached`, and with false after the time-out. */
  async until(
    reached: (counts: Counts) => boolean,
    timeoutMs: number,
    onCounts: (counts: Counts) => void = () => undefined,
  ): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const counts = await this.counts()
      onCounts(counts)
      if (reached(counts)) return true
      if (performance.now() > deadline) return false
      await pause(this.#pollMs)
    }
  }

  get #pollMs(): number {
    return Math.max(POLL_MS, this.children.length * POLL_MS_PER_PROCESS)
  }

  async counts(): Promise<Counts> {
    const all = await this.#all((child) => child.call('counts', undefined as never))
    return all.reduce((sum, one) => ({
      ready: sum.ready + one.ready,
      delivered: sum.delivered + one.delivered,
      groupDelivered: sum.groupDelivered + one.groupDelivered,
    }))
  }

  async report(): Promise<Totals> {
    const reports = await this.#all((child) => child.call('report', undefined as never))
    return {
      ...sumReports(reports),
      latency: mergeHistograms(reports.map(({ latency }) => latency)),
      handshake: mergeHistograms(reports.map(({ handshake }) => handshake)),
    }
  }

  async collect(): Promise<void> {
    await this.#all((child) => child.call('collect', undefined as never))
  }

  async newRound(): Promise<void> {
    await this.#all((child) => child.call('newRound', undefined as never))
  }

  async leave({ abrupt = true, count }: { abrupt?: boolean; count?: number } = {}): Promise<void> {
    const counts = count === undefined ? null : apportion(count, this.shares)
    await Promise.all(
      this.children.map((child, i) => child.call('leave', { abrupt, ...(counts && { count: counts[i] as number }) })),
    )
  }

  async stop(): Promise<void> {
    await this.#all((child) => child.stop())
  }

  /** Passes the counts to `look` until `done` settles. Rejects with StalledError if no device becomes ready for long. */
  async #watch(done: Promise<unknown>, look: (counts: Counts) => Promise<void>): Promise<void> {
    let finished = false
    const settled = done.finally(() => {
      finished = true
    })
    let best = -1
    let movedAtMs = performance.now()
    while (!finished) {
      await Promise.race([settled, pause(this.#pollMs)])
      if (finished) break
      const counts = await this.counts()
      await look(counts)
      if (counts.ready > best) {
        best = counts.ready
        movedAtMs = performance.now()
      } else if (performance.now() - movedAtMs > STALLED_MS) {
        const { refused, failed, closes } = await this.report()
        throw new StalledError(best, refused, failed, closes)
      }
    }
    await settled
  }

  #all<T>(call: (child: Child<GeneratorMethods>) => Promise<T>): Promise<T[]> {
    return Promise.all(this.children.map(call))
  }
}

export class StalledError extends Error {
  constructor(ready: number, refused: number, failed: number, closes: Record<string, number>) {
    const codes = JSON.stringify(closes)
    super(
      `no device became ready for ${STALLED_MS / 1000} s: ${ready} ready, ${refused} refused, ${failed} failed, closes ${codes}`,
    )
    this.name = 'StalledError'
  }
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Splits `count` into shares that differ by at most 1. */
export function split(count: number, parts: number): number[] {
  return Array.from(
    { length: parts },
    (_, i) => Math.floor((count * (i + 1)) / parts) - Math.floor((count * i) / parts),
  )
}

/** Divides `count` in proportion to the shares. */
export function apportion(count: number, shares: readonly number[]): number[] {
  const total = shares.reduce((sum, share) => sum + share, 0)
  let before = 0
  return shares.map((share) => {
    const from = Math.floor((count * before) / total)
    before += share
    return Math.floor((count * before) / total) - from
  })
}
