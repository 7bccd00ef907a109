/** Faults of the store: a stream without room, and the loss of the session table. */
import { Bucket, messagesStream } from '../../../protocol/subjects.js'
import { RESERVE_BYTES_MIN } from '../../../src/nats/server/headroom.js'
import { ensureStreams } from '../../../src/nats/server/streams.js'
import type { StoreSettings } from '../../../src/nats/settings.js'
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'
import type { Rig } from '../rig.js'

const FULL_MS = [3_000, 8_000] as const
/** The room that is left: less than the reserve of the core, and more than it appends before it notices. */
const ROOM_BYTES = RESERVE_BYTES_MIN / 2
const TIMEOUT_MS = 5_000
/** Longer than a router waits for an acknowledgement before it enqueues the push. */
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

/** The families of streams, with the setting that limits each stream, and its contents. */
const families: Record<
  string,
  { setting: keyof StoreSettings & `${string}BytesMax`; contents: string; split: boolean; refused: boolean }
> = {
  MESSAGES: { setting: 'messagesBytesMax', contents: 'accepted pushes', split: true, refused: true },
  QUEUE: { setting: 'queueBytesMax', contents: 'pushes that wait for devices', split: true, refused: false },
  EVENTS: { setting: 'eventsBytesMax', contents: 'events of pushes', split: true, refused: true },
  BROADCAST: { setting: 'broadcastBytesMax', contents: 'group messages', split: false, refused: true },
}

const filling = (family: string): Fault => ({
  name: `${family.toLowerCase()}-full`,
  summary: `no room in ${family} (${families[family]?.contents}): ${families[family]?.refused ? 'pushes must be refused, never falsely accepted' : 'pushes must wait in MESSAGES'}`,
  ...(families[family]?.refused && { expectedAnswer: /storage_full/ }),
  inject: async (rig, random) => {
    const { setting, split } = families[family] ?? { setting: 'messagesBytesMax', split: true }
    const store = rig.system.config.store
    const names = split ? Array.from({ length: store.split }, (_, index) => `${family}_${index}`) : [family]
    const infos = await Promise.all(names.map((name) => api<StreamState>(rig, `STREAM.INFO.${name}`, {})))
    const bytesMax = Math.max(...infos.map(({ state }) => state.bytes)) + ROOM_BYTES
    await ensureStreams(rig.admin.bus, { ...store, [setting]: bytesMax })
    return {
      description: `the limit of ${family} is ${bytesMax} bytes`,
      durationMs: between(random, FULL_MS),
      heal: () => ensureStreams(rig.admin.bus, store),
      // A full QUEUE refuses no request. Its effect is that records stay in MESSAGES.
      ...(!families[family]?.refused && { hadEffect: () => isHeldUp(rig) }),
    }
  },
})

/** True if a push was accepted some time ago and is neither delivered nor queued. */
async function isHeldUp({ admin, system }: Rig): Promise<boolean> {
  const streams = Array.from({ length: system.config.store.split }, (_, index) => admin.log(messagesStream(index)))
  const oldest = await Promise.all(streams.map((log) => log.next('>', 1)))
  return oldest.some((record) => record !== null && Date.now() - record.storedAtMs > HELD_UP_MS)
}

const losing: Fault = {
  name: 'sessions-lost',
  summary: 'the session table is lost',
  // The audit restores the sessions. Its default interval of five minutes would make a run too long.
  settings: { transport: { auditMs: 5_000 } },
  inject: async (rig) => {
    const { purged } = await api<{ purged: number }>(rig, `STREAM.PURGE.KV_${Bucket.SESSIONS}`, {})
    return { description: `${purged} session records are deleted`, durationMs: 0, heal: nothingToHeal }
  },
}

export const stores: Fault[] = [losing, ...Object.keys(families).map(filling)]
