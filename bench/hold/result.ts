/** The result of `hold`. A phase that a run did not reach is null, and `failure` says why. */
import Type, { type Static, type TSchema } from 'typebox'
import { LatencyMs } from '../measure/latency.js'
import { Estimate, Footprint, PerConnection } from './footprint.js'

const reached = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

export const Pushes = Type.Object({
  sent: Type.Integer(),
  delivered: Type.Integer(),
  lost: Type.Integer(),
  perSecond: Type.Number(),
  p50: Type.Number(),
  p99: Type.Number(),
  latencyMs: LatencyMs,
})

export const Broadcast = Type.Object({
  devices: Type.Integer(),
  delivered: Type.Integer(),
  lost: Type.Integer(),
  /** From the intended send time to the last device. */
  lastDeviceMs: Type.Number(),
})

export const Kill = Type.Object({
  /** Devices of the killed worker. */
  devices: Type.Integer(),
  /** From the kill until this percentage of its devices is ready again; -1: not in time. */
  secondsTo99: Type.Number(),
  secondsTo100: Type.Number(),
  /** Devices of other workers that lost their connection. */
  othersDisconnected: Type.Integer(),
  pushed: Type.Integer(),
  lost: Type.Integer(),
})

export const RollingRestart = Type.Object({
  workers: Type.Integer(),
  seconds: Type.Number(),
  /** Number of times that a device was asked to leave. */
  moved: Type.Integer(),
  pushed: Type.Integer(),
  lost: Type.Integer(),
  p50: Type.Number(),
  p99: Type.Number(),
  unexpectedDisconnects: Type.Integer(),
})

export const Result = Type.Object({
  /** Why the run is incomplete; empty: it is complete. */
  failure: Type.String(),
  /** Why the ramp ended early, and how the memory was divided then; empty: all devices connected. */
  limit: Type.String(),
  wanted: Type.Integer(),
  connections: Type.Integer(),
  workers: Type.Integer(),
  generators: Type.Integer(),
  rampSeconds: Type.Number(),
  connectsPerSecond: Type.Number(),
  /** Over the whole run: handshakes that were answered 503 or closed before WELCOME, and TCP connections that failed. */
  refused: Type.Integer(),
  failedConnects: Type.Integer(),
  heldSeconds: Type.Number(),
  keepalives: Type.Integer(),
  /** Over the whole run, without the devices of the killed worker. */
  unexpectedDisconnects: Type.Integer(),
  serverRssBytes: Type.Integer(),
  serverPssBytes: Type.Integer(),
  /** Memory in use on the whole machine at the end of the hold, and before the run. */
  totalMemoryBytes: Type.Integer(),
  totalMemoryBytesBefore: Type.Integer(),
  kernelBytes: Type.Integer(),
  natsRssBytes: Type.Integer(),
  generatorRssBytes: Type.Integer(),
  generatorPssBytes: Type.Integer(),
  /** Cores that workers and supervisor use during the hold. */
  idleCores: Type.Number(),
  natsIdleCores: Type.Number(),
  coreIdleCores: Type.Number(),
  generatorIdleCores: Type.Number(),
  pushes: reached(Pushes),
  broadcast: reached(Broadcast),
  kill: reached(Kill),
  rollingRestart: reached(RollingRestart),
  /** Messages of all phases that did not reach their device. */
  lost: Type.Integer(),
  duplicatesSeenByApp: Type.Integer(),
  bytesPerConnection: reached(PerConnection),
  /** Lowest available memory at any time. */
  lowestAvailableBytes: Type.Integer(),
  stages: Type.Record(Type.String(), Footprint),
  estimates: Type.Array(Estimate),
  /** Bytes in the store for each device. */
  storeBytesPerDevice: reached(Type.Object({ sessions: Type.Number(), devices: Type.Number() })),
  closes: Type.Record(Type.String(), Type.Integer()),
})
export type Result = Static<typeof Result>

/** The result of a run that has not begun. */
export function emptyResult(wanted: number): Result {
  return {
    failure: '',
    limit: '',
    wanted,
    connections: 0,
    workers: 0,
    generators: 0,
    rampSeconds: 0,
    refused: 0,
    failedConnects: 0,
    connectsPerSecond: 0,
    heldSeconds: 0,
    keepalives: 0,
    unexpectedDisconnects: 0,
    serverRssBytes: 0,
    serverPssBytes: 0,
    totalMemoryBytes: 0,
    totalMemoryBytesBefore: 0,
    kernelBytes: 0,
    natsRssBytes: 0,
    generatorRssBytes: 0,
    generatorPssBytes: 0,
    idleCores: 0,
    natsIdleCores: 0,
    coreIdleCores: 0,
    generatorIdleCores: 0,
    pushes: null,
    broadcast: null,
    kill: null,
    rollingRestart: null,
    lost: 0,
    duplicatesSeenByApp: 0,
    bytesPerConnection: null,
    lowestAvailableBytes: 0,
    stages: {},
    estimates: [],
    storeBytesPerDevice: null,
    closes: {},
  }
}
