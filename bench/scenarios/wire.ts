/** Counts the bytes of typical exchanges: our protocol, MQTT QoS 1 over WebSocket, JSON over WebSocket. */
import Type, { type Static } from 'typebox'
import { decodeBody } from '../../protocol/decode-body.js'
import { startMosquitto } from '../baselines/mosquitto.js'
import { CONTENT_BYTES, MESSAGE, NotifyFrames, TITLE } from '../content.js'
import { deviceOf } from '../generator/identity.js'
import { nowMicros } from '../micros.js'
import { BenchRouter } from '../router.js'
import { type Bench, defineScenario } from '../scenario.js'
import { stampAttributes } from '../stamp.js'
import { deviceToken, locate, REGISTRATION } from '../system/fleet.js'
import { startTransport } from '../system/transport-only.js'
import { borealisProtocol } from '../wire/borealis.js'
import { jsonProtocol } from '../wire/json.js'
import { measureSteps, type Steps } from '../wire/measure.js'
import { mqttProtocol } from '../wire/mqtt.js'

const Options = Type.Object({
  keepaliveSeconds: Type.Integer({
    default: 120,
    minimum: 5,
    maximum: 3_600,
    description: 'seconds between two keepalives, for all three protocols',
  }),
})
type Options = Static<typeof Options>

const Bytes = Type.Object({ up: Type.Integer(), down: Type.Integer(), total: Type.Integer() })
const Row = Type.Object({ borealis: Bytes, mqtt: Bytes, json: Bytes })

const Result = Type.Object({
  /** Bytes on the TCP connection: upgrade, framing and bodies together. */
  connect: Row,
  resume: Row,
  /** One push with its acknowledgement. */
  push: Row,
  idleHour: Row,
  contentBytes: Type.Integer(),
  /** Bytes of a push without title, message and data: the frame and its WebSocket header. */
  pushOverheadDown: Type.Integer(),
  /** The same together with the acknowledgement. */
  pushOverheadBoth: Type.Integer(),
  keepaliveSeconds: Type.Integer(),
  mosquitto: Type.String(),
})
type Result = Static<typeof Result>

export const wire = defineScenario({
  name: 'wire',
  summary: 'bytes of connect, resume, one push and an idle hour: our protocol, MQTT and JSON over WebSocket',
  options: Options,
  result: Result,
  run,
  show: (result) =>
    ROWS.map((row) => ({
      bytes: row,
      borealis: result[row].borealis.total,
      mqtt: result[row].mqtt.total,
      json: result[row].json.total,
    })),
})

const ROWS = ['connect', 'resume', 'push', 'idleHour'] as const

async function run(bench: Bench, { keepaliveSeconds }: Options): Promise<Result> {
  const rig = await startTransport(bench, { workers: 1, connections: 1 })
  const broker = await startMosquitto(bench)
  const token = deviceToken(rig.system, rig.run, 0)
  let router: BenchRouter | null = null
  const ours = borealisProtocol({
    target: rig.system.deviceTarget,
    token,
    router: async () => {
      router = new BenchRouter(rig.broker, rig.run, await locate(rig.broker, rig, 1))
      return router
    },
  })
  bench.defer(() => router?.stop())
  const borealis = await measureSteps(ours, keepaliveSeconds)

  const frame = new NotifyFrames(REGISTRATION, Math.floor(Date.now() / 1000) + 600).make(idOf(1), 0, nowMicros())
  const body = frame.subarray((frame[0] as number) < 128 ? 2 : 3)
  const mqtt = await measureSteps(
    mqttProtocol(broker, {
      device: deviceOf(rig.run, 0),
      token,
      keepaliveSeconds,
      payload: body,
      contentBytes: CONTENT_BYTES,
    }),
    keepaliveSeconds,
  )
  const json = await measureSteps(
    await jsonProtocol(bench, { token, ticket: ours.ticket, push: asJson(body), contentBytes: CONTENT_BYTES }),
    keepaliveSeconds,
  )
  const all = { borealis, mqtt, json }
  return {
    ...(Object.fromEntries(ROWS.map((row) => [row, rowOf(all, row)])) as Pick<Result, (typeof ROWS)[number]>),
    contentBytes: CONTENT_BYTES,
    pushOverheadDown: borealis.push.down - CONTENT_BYTES,
    pushOverheadBoth: borealis.push.down + borealis.push.up - CONTENT_BYTES,
    keepaliveSeconds,
    mosquitto: broker.version,
  }
}

function rowOf(all: Record<'borealis' | 'mqtt' | 'json', Steps>, row: keyof Steps): Static<typeof Row> {
  const of = ({ [row]: { up, down } }: Steps) => ({
    up: Math.round(up),
    down: Math.round(down),
    total: Math.round(up + down),
  })
  return { borealis: of(all.borealis), mqtt: of(all.mqtt), json: of(all.json) }
}

/** An id like those of the core, so that it has a realistic size in JSON. */
const idOf = (n: number) => (BigInt(Date.now() - Date.UTC(2024, 0, 1)) << 22n) | BigInt(n)

function asJson(body: Uint8Array) {
  const notify = decodeBody('NOTIFY', body)
  if (notify.type !== 'NOTIFY') throw new TypeError('not a NOTIFY')
  return {
    id: notify.id.toString(),
    registration: notify.registration,
    expiresAt: notify.expiresAtSeconds,
    priority: notify.priority,
    title: TITLE,
    message: MESSAGE,
    data: stampAttributes(0, nowMicros()),
  }
}
