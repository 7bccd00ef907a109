/** The memory of all parts at one time, and an estimate for more devices. */
import Type, { type Static } from 'typebox'
import { kernelMemory } from '../measure/kernel.js'
import { memorySum } from '../measure/processes.js'

const bytes = Type.Integer

export const Footprint = Type.Object({
  connections: Type.Integer(),
  /** Workers and supervisor. A shared page counts in each process for Rss, once for Pss, and not at all for Private. */
  serverRssBytes: bytes(),
  serverPssBytes: bytes(),
  serverPrivateBytes: bytes(),
  coreRssBytes: bytes(),
  natsRssBytes: bytes(),
  generatorRssBytes: bytes(),
  generatorPssBytes: bytes(),
  generatorPrivateBytes: bytes(),
  /** Slab, socket buffers, page tables and kernel stacks of the whole machine. */
  kernelBytes: bytes(),
  /** Memory of the whole machine that is not available. */
  usedBytes: bytes(),
  availableBytes: bytes(),
})
export type Footprint = Static<typeof Footprint>

export interface Pids {
  server: readonly number[]
  core: readonly number[]
  nats: readonly number[]
  generators: readonly number[]
}

export function footprint(connections: number, pids: Pids): Footprint {
  const server = memorySum(pids.server)
  const generators = memorySum(pids.generators)
  const kernel = kernelMemory()
  return {
    connections,
    serverRssBytes: server.rssBytes,
    serverPssBytes: server.pssBytes,
    serverPrivateBytes: server.privateBytes,
    coreRssBytes: memorySum(pids.core).rssBytes,
    natsRssBytes: memorySum(pids.nats).rssBytes,
    generatorRssBytes: generators.rssBytes,
    generatorPssBytes: generators.pssBytes,
    generatorPrivateBytes: generators.privateBytes,
    kernelBytes: kernel.slabBytes + kernel.socketBufferBytes + kernel.processBytes,
    usedBytes: kernel.usedBytes,
    availableBytes: kernel.availableBytes,
  }
}

export const PerConnection = Type.Object({
  server: Type.Integer(),
  nats: Type.Integer(),
  generator: Type.Integer(),
  /** Kernel memory of both ends of a connection. */
  kernel: Type.Integer(),
  /** All memory that the machine lacks afterwards. */
  machine: Type.Integer(),
})
export type PerConnection = Static<typeof PerConnection>

/** The footprints at four points of a run: nothing started; service up; generators up; all devices connected. */
export interface Stages {
  empty: Footprint
  started: Footprint
  ready: Footprint
  held: Footprint
}

export function perConnection({ started, ready, held }: Stages): PerConnection {
  const each = (from: Footprint, field: keyof Footprint) =>
    Math.round((held[field] - from[field]) / Math.max(1, held.connections))
  return {
    server: each(started, 'serverPrivateBytes'),
    nats: each(started, 'natsRssBytes'),
    generator: each(ready, 'generatorPrivateBytes'),
    kernel: each(ready, 'kernelBytes'),
    machine: each(ready, 'usedBytes'),
  }
}

export const Estimate = Type.Object({
  connections: Type.Integer(),
  workers: Type.Integer(),
  generators: Type.Integer(),
  serverBytes: bytes(),
  natsBytes: bytes(),
  coreBytes: bytes(),
  generatorBytes: bytes(),
  kernelBytes: bytes(),
  /** The sum of these, and the memory that the machine used before the run. */
  totalBytes: bytes(),
  /** Whether the machine has this much memory, and the reserve that a ramp leaves. */
  fits: Type.Boolean(),
})
export type Estimate = Static<typeof Estimate>

export interface Sizing {
  workers(connections: number): number
  generators(connections: number): number
  machineBytes: number
  reserveBytes: number
}

/**
 * Estimates the memory for `connections`: that of the processes without connections (where pages that they share count
 * once), plus the bytes for each connection.
 */
export function estimate(connections: number, stages: Stages, sizing: Sizing): Estimate {
  const { empty, started, ready, held } = stages
  const each = perConnection(stages)
  const workers = sizing.workers(connections)
  const generators = sizing.generators(connections)
  const alone = (count: number, now: number, pssBytes: number, privateBytes: number) =>
    pssBytes - privateBytes + (privateBytes / now) * count
  const server = alone(workers, sizing.workers(held.connections), started.serverPssBytes, started.serverPrivateBytes)
  const generator = alone(
    generators,
    sizing.generators(held.connections),
    ready.generatorPssBytes,
    ready.generatorPrivateBytes,
  )
  const parts = {
    serverBytes: Math.round(server + connections * each.server),
    natsBytes: Math.round(started.natsRssBytes + connections * each.nats),
    coreBytes: held.coreRssBytes,
    generatorBytes: Math.round(generator + connections * each.generator),
    kernelBytes: Math.round(connections * each.kernel),
  }
  const totalBytes = empty.usedBytes + Object.values(parts).reduce((sum, part) => sum + part, 0)
  const fits = totalBytes + sizing.reserveBytes <= sizing.machineBytes
  return { connections, workers, generators, ...parts, totalBytes, fits }
}
