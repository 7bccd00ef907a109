/** The goals of a release. Ratios compare two sides of one run, so they hold on any machine. */
import type { Envelope } from '../envelope.js'

export interface Goal {
  scenario: string
  /** The measured quantity, for the table of goals. */
  quantity: string
  /** In words: `at most 1.5`. */
  wanted: string
  /** NaN if the result has no such value. */
  measured(result: Envelope['result']): number
  reached(measured: number): boolean
  unit: string
}

type Path = readonly string[]

/** The number at a path; NaN if there is none. */
export function numberAt(result: unknown, path: Path): number {
  let value = result
  for (const name of path)
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  return typeof value === 'number' ? value : Number.NaN
}

const atMost = (scenario: string, quantity: string, limit: number, unit: string, ...path: Path): Goal => ({
  scenario,
  quantity,
  unit,
  wanted: `at most ${limit}`,
  measured: (result) => numberAt(result, path),
  reached: (value) => value <= limit,
})

const atLeast = (scenario: string, quantity: string, limit: number, unit: string, ...path: Path): Goal => ({
  scenario,
  quantity,
  unit,
  wanted: `at least ${limit}`,
  measured: (result) => numberAt(result, path),
  reached: (value) => value >= limit,
})

const fewerThanMqtt = (row: string): Goal => ({
  scenario: 'wire',
  quantity: `bytes of ${row}, relative to MQTT over WebSocket`,
  wanted: 'less than 1',
  unit: '',
  measured: (result) => numberAt(result, [row, 'borealis', 'total']) / numberAt(result, [row, 'mqtt', 'total']),
  reached: (value) => value < 1,
})

export const goals: readonly Goal[] = [
  atMost('idle', 'memory of an idle session, relative to a bare uWebSockets.js server', 1.5, '', 'ratioToBare'),
  atMost('unicast', 'worker CPU of an acknowledged delivery, relative to a bare server', 1.4, '', 'ratioToBare'),
  atMost('unicast', 'p99 at half of the maximum rate', 25, 'ms', 'latencyMs', 'p99'),
  atMost('unicast', 'lost', 0, '', 'lost'),
  atLeast(
    'peers',
    'deliveries for a second of server CPU, NATS bus included, relative to mosquitto QoS 1',
    4,
    '',
    'unicastRatioToMosquitto',
  ),
  atLeast('broadcast', 'deliveries a second, relative to a bare server', 0.9, '', 'ratioToBare'),
  atMost('connect', 'server CPU of a resumed handshake, relative to a bare upgrade', 2.5, '', 'resumedRatioToBare'),
  atMost('wire', 'bytes of a push beyond title, message and data', 32, 'bytes', 'pushOverheadDown'),
  fewerThanMqtt('connect'),
  fewerThanMqtt('resume'),
  fewerThanMqtt('push'),
  fewerThanMqtt('idleHour'),
  atLeast('pipeline', 'messages a second, HTTP to acknowledged device', 6_000, '', 'deliveredPerSecond'),
  atMost('pipeline', 'p99 at half of the maximum rate', 250, 'ms', 'latencyMs', 'p99'),
  atMost('pipeline', 'lost', 0, '', 'lost'),
  atLeast('accept', 'single POSTs accepted a second', 3_000, '', 'single', 'acceptedPerSecond'),
  atMost('accept', 'p99 of a single POST at half of the maximum rate', 50, 'ms', 'single', 'latencyMs', 'p99'),
  atLeast('accept', 'messages accepted a second in batches', 15_000, '', 'batch', 'acceptedPerSecond'),
  atLeast('accept', 'messages accepted a second from NATS', 15_000, '', 'ingress', 'acceptedPerSecond'),
  atMost('storm', 'time until 99% are back, relative to a plain ramp', 1.3, '', 'ratioToPlain'),
  atMost('catchup', 'p99 from connecting to caught up', 3_000, 'ms', 'caughtUpMs', 'p99'),
  atMost('catchup', 'lost', 0, '', 'lost'),
  atMost('storm', 'lost', 0, '', 'lost'),
  atMost('hold', 'lost', 0, '', 'lost'),
  atMost('hold', 'unexpected disconnects', 0, '', 'unexpectedDisconnects'),
  {
    ...atMost('hold', 'idle cores at 500,000 devices', 0.5, '', 'idleCores'),
    measured: (result) =>
      numberAt(result, ['connections']) === 500_000 ? numberAt(result, ['idleCores']) : Number.NaN,
  },
  atMost('hold', 'p99 of pushes during a rolling restart', 2_000, 'ms', 'rollingRestart', 'p99'),
  atMost('scale', 'CPU of a delivery at the largest size, relative to the first', 1.15, '', 'ratio'),
]
