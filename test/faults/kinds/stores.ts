/** The store loses a table, or has no more room. */
import { Bucket, messagesStream } from '../../../protocol/subjects.js'
import { RESERVE_BYTES_MIN } from '../../../src/nats/server/headroom.js'
import { ensureStreams } from '../../../src/nats/server/streams.js'
import type { StoreSettings } from '../../../src/nats/settings.js'
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'
import type { Rig } from '../rig.js'

const FULL_MS = [3_000, 8_000] as const
/** What is left: less than the core keeps in reserve, and more than what it adds before it has noticed. */
const ROOM_BYTES = RESERVE_BYTES_MIN / 2
const TIMEOUT_MS = 5_000
/** Longer than a router waits for a device before it enqueues. */
const HELD_UP_MS = 1_800

interface StreamState {
  state: { bytes: number }
}

async function api<T>(rig: Rig, verb: string, query: object): Promise<T> {
  const body = Buffer.from(JSON.stringify(query))
  const answer = await rig.admin.bus.request(`$JS.API.${verb}`, body, { timeoutMs: TIMEOUT_MS })
  const read = JSON.parse(Buffer.from(answer).toString('utf8')) as T & { error?: { description: string } }
  if (read.error) throw new Error(`${verb}: ${read.error.description}`)
  return read
}

/** Streams of a family, and the setting that bounds each of them. */
const families: Record<
  string,
  { setting: keyof StoreSettings & `${string}BytesMax`; what: string; split: boolean; refused: boolean }
> = {
  MESSAGES: { setting: 'messagesBytesMax', what: 'what is accepted', split: true, refused: true },
  QUEUE: { setting: 'queueBytesMax', what: 'what devices are owed', split: true, refused: false },
  EVENTS: { setting: 'eventsBytesMax', what: 'the ends of messages', split: true, refused: true },
  BROADCAST: { setting: 'broadcastBytesMax', what: 'group messages', split: false, refused: true },
}

const filling = (family: string): Fault => ({
  name: `${family.toLowerCase()}-full`,
  summary: `no room in ${family} (${families[family]?.what}): refused, never falsely accepted`,
  ...(families[family]?.refused && { expects: /storage_full/ }),
  inject: async (rig, random) => {
    const { setting, split } = families[family] ?? { setting: 'messagesBytesMax', split: true }
    const store = rig.system.config.store
    const names = split ? Array.from({ length: store.split }, (_, index) => `${family}_${index}`) : [family]
    const infos = await Promise.all(names.map((name) => api<StreamState>(rig, `STREAM.INFO.${name}`, {})))
    const bytesMax = Math.max(...infos.map(({ state }) => state.bytes)) + ROOM_BYTES
    await ensureStreams(rig.admin.bus, { ...store, [setting]: bytesMax })
    return {
      told: `${family} may have ${bytesMax} bytes`,
      lastsMs: between(random, FULL_MS),
      heal: () => ensureStreams(rig.admin.bus, store),
      // Those are answered with the refusal; of enqueuing nobody is told, but what cannot be queued stays where it is.
      ...(!families[family]?.refused && { hurt: () => isHeldUp(rig) }),
    }
  },
})

/** Something was accepted a while ago and is neither delivered nor queued. */
async function isHeldUp({ admin, system }: Rig): Promise<boolean> {
  const streams = Array.from({ length: system.config.store.split }, (_, index) => admin.log(messagesStream(index)))
  const oldest = await Promise.all(streams.map((log) => log.next('>', 1)))
  return oldest.some((record) => record !== null && Date.now() - record.storedAtMs > HELD_UP_MS)
}

const losing: Fault = {
  name: 'sessions-lost',
  summary: 'the session table is lost',
  // Sessions are audited once in so long; the default is five minutes.
  settings: { transport: { auditMs: 5_000 } },
  inject: async (rig) => {
    const { purged } = await api<{ purged: number }>(rig, `STREAM.PURGE.KV_${Bucket.SESSIONS}`, {})
    return { told: `${purged} sessions are gone`, lastsMs: 0, heal: nothingToHeal }
  },
}

export const stores: Fault[] = [losing, ...Object.keys(families).map(filling)]
