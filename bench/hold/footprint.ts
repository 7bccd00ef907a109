/** What everything weighs at one moment, and what it will weigh with more devices. */
import Type, { type Static } from 'typebox'
import { kernelMemory } from '../measure/kernel.js'
import { memorySum } from '../measure/processes.js'

const bytes = Type.Integer

export const Footprint = Type.Object({
  connections: Type.Integer(),
  /** Workers and supervisor. Rss counts shared pages in each process, Pss each page once, Private none of them. */
  serverRssBytes: bytes(),
  serverPssBytes: bytes(),
  serverPrivateBytes: bytes(),
  coreRssBytes: bytes(),
  natsRssBytes: bytes(),
  generatorRssBytes: bytes(),
  generatorPssBytes: bytes(),
  generatorPrivateBytes: bytes(),
  /** Of the whole machine: slab, socket buffers, page tables and stacks. */
  kernelBytes: bytes(),
  /** Of the whole machine: what is not available any more. */
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
  /** Both ends of the connection. */
  kernel: Type.Integer(),
  /** By what the machine has less: everything. */
  machine: Type.Integer(),
})
export type PerConnection = Static<typeof PerConnection>

/** Where a run stood: nothing started, service up and no device known, generators up, everybody connected. */
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
  /** All of them, and what the machine used before. */
  totalBytes: bytes(),
  /** With the reserve that a ramp leaves. */
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
 * What processes of a kind weigh alone (pages that they share are there once, however many they are), and bytes of a
 * connection times connections.
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
