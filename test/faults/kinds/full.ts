/**
 * Streams with a small limit that traffic fills. New messages must be refused, accepted ones must end, and the service
 * must regain room and accept messages again, although nobody changes a limit or deletes a record.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Overrides } from '../../../bench/system/settings.js'
import { between } from '../../sim/random.js'
import type { Flood } from '../driver/load.js'
import type { Fault } from '../fault.js'

const KIB = 1024
const HOUR_SECONDS = 3_600
/** Events of ended messages may leave the store after this time; the default is ten minutes. */
const HISTORY_MIN_MS = 8_000
const FULL_MS = [2_000, 6_000] as const
const FILLS_MS_MAX = 60_000
const REFUSALS = 20
const POLL_MS = 100

interface Filling {
  contents: string
  settings: Overrides
  flood: Flood
  /** Share of the devices that are disconnected and get the flood. Default: connected devices get it. */
  away?: number
  /** The answer to a refused message. */
  refusal?: RegExp
}

const short = { kind: 'device', lanes: 8, characters: 20, ttlSeconds: 4 * HOUR_SECONDS } as const
const long = { ...short, characters: 2_000 }

/** The fillings, by the stream that fills. */
const fillings: Record<string, Filling> = {
  events: {
    contents: 'the events of messages; those of the oldest ended messages are deleted',
    settings: { store: { eventsBytesMax: 256 * KIB } },
    flood: { ...short, keyedShare: 0.05 },
  },
  queue: {
    contents: 'messages for absent devices',
    settings: { store: { queueBytesMax: 256 * KIB } },
    flood: long,
    away: 0.3,
  },
  expiry: {
    contents: 'expiry times of queued messages',
    settings: { store: { expiryBytesMax: 176 * KIB } },
    flood: short,
    away: 0.5,
  },
  messages: {
    contents: 'accepted messages that are not routed yet',
    settings: { store: { messagesBytesMax: 112 * KIB } },
    flood: { ...long, lanes: 48 },
  },
  broadcast: {
    contents: 'group messages; the oldest are deleted by age',
    settings: { store: { broadcastBytesMax: 512 * KIB, broadcastAgeMs: 20_000, duplicateWindowMs: 20_000 } },
    flood: { ...long, kind: 'topic', lanes: 4 },
  },
  schedule: {
    contents: 'scheduled messages',
    settings: { store: { scheduleBytesMax: 512 * KIB } },
    flood: { ...long, laterMs: 12_000 },
  },
  ingress: {
    contents: 'messages of NATS publishers',
    settings: { store: { ingressBytesMax: 320 * KIB } },
    flood: { ...short, kind: 'ingress', lanes: 48 },
    refusal: /maximum messages/,
  },
}

const filling = (
  stream: string,
  { contents, settings, flood, away = 0, refusal = /storage_full/ }: Filling,
): Fault => ({
  name: `${stream}-full`,
  summary: `traffic fills ${stream.toUpperCase()} (${contents}): pushes must be refused, and later accepted again`,
  settings: { ...settings, core: { historyMinMs: HISTORY_MIN_MS } },
  expectedAnswer: refusal,
  mayForget: true,
  inject: async ({ driver }, random) => {
    await driver.call('flood', { flood: { ...flood, refusal: refusal.source }, share: away })
    const untilMs = Date.now() + FILLS_MS_MAX
    let counts = await driver.call('floodCounts', undefined)
    while (counts.refused < REFUSALS && Date.now() < untilMs) {
      await sleep(POLL_MS)
      counts = await driver.call('floodCounts', undefined)
    }
    return {
      description: `${stream.toUpperCase()} refused ${counts.refused} of ${counts.sent} messages`,
      durationMs: between(random, FULL_MS),
      heal: () => driver.call('endFlood', undefined),
    }
  },
})

export const full: Fault[] = Object.entries(fillings).map(([stream, one]) => filling(stream, one))
