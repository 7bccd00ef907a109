/**
 * What the service knows of a device: its registrations and topics (table DEVICES). Core writes it, workers read it.
 *
 * `version` is raised by every change. A registration or subscription remembers the version that added it and `since`,
 * the last sequence of BROADCAST read before it was written: a group message accepted after the answer is behind it.
 */
import { Packr } from 'msgpackr'
import { broadcastSubject, deviceKey } from '../../protocol/subjects.js'
import { BrokerError, type Table } from '../nats/broker.js'

/** Where something stands in the order of subscriptions and of group messages. */
export interface Added {
  /** Group messages after this sequence of BROADCAST are for it. */
  since: number
  /** Version of the record that added it: a cursor below this version has not seen it yet, and starts at `since`. */
  addedVersion: number
}

/** How a registration is reached: by a connection of ours; later by what bridges bring. */
export const CHANNELS = ['native'] as const
export type Channel = (typeof CHANNELS)[number]

export interface Registration extends Added {
  /** 1 and up; never used again on this device. */
  number: number
  project: string
  application: string
  /** Empty: no user. */
  user: string
  channel: Channel
  createdAtMs: number
}

export interface TopicSubscription extends Added {
  /** The registration that asked; the topic is one of its project. */
  registration: number
  project: string
  topic: string
}

export interface DeviceRecord {
  registrations: Registration[]
  topics: TopicSubscription[]
  /** Version of the subscriptions; 0: the device never registered anything. */
  version: number
  nextNumber: number
  /** Registrations made on the day of the last one; absent: none since release 0.1. */
  today?: RegisteredToday
}

export interface RegisteredToday {
  /** Days since 1970, UTC. */
  day: number
  count: number
}

const DAY_MS = 86_400_000

export function registeredToday({ today }: DeviceRecord, nowMs: number): RegisteredToday {
  const day = Math.floor(nowMs / DAY_MS)
  return today?.day === day ? today : { day, count: 0 }
}

/** A number that was given and is not in the record has ended, for good. */
export function hasEnded({ nextNumber, registrations }: DeviceRecord, number: number): boolean {
  return number < nextNumber && !registrations.some((registration) => registration.number === number)
}

/** One group that a device belongs to. */
export interface Group extends Added {
  /** Subject of its messages in BROADCAST: `broadcast.<project>.<kind>.<name>`. */
  subject: string
}

export const NO_DEVICE_RECORD: Readonly<DeviceRecord> = { registrations: [], topics: [], version: 0, nextNumber: 1 }

/**
 * The groups of a device, each once: the applications and users of its registrations, and its topics. Where several
 * registrations share a group, the one added first counts.
 */
export function groupsOf(record: DeviceRecord): Group[] {
  const groups = new Map<string, Group>()
  const add = (subject: string, { since, addedVersion }: Added) => {
    const known = groups.get(subject)
    if (!known || addedVersion < known.addedVersion) groups.set(subject, { subject, since, addedVersion })
  }
  for (const r of record.registrations) {
    add(broadcastSubject(r.project, 'app', r.application), r)
    if (r.user) add(broadcastSubject(r.project, 'user', r.user), r)
  }
  for (const t of record.topics) add(broadcastSubject(t.project, 'topic', t.topic), t)
  return [...groups.values()]
}

const RECORD_VERSION = 1
const packr = new Packr({ useRecords: false })

/** msgpack: [v, version, nextNumber, registrations, topics, day, count], registrations and topics as lists of lists. */
export function encodeDeviceRecord(record: DeviceRecord): Uint8Array {
  return packr.pack([
    RECORD_VERSION,
    record.version,
    record.nextNumber,
    record.registrations.map((r) => [
      r.number,
      r.project,
      r.application,
      r.user,
      r.createdAtMs,
      r.since,
      r.addedVersion,
      r.channel,
    ]),
    record.topics.map((t) => [t.registration, t.project, t.topic, t.since, t.addedVersion]),
    ...(record.today ? [record.today.day, record.today.count] : []),
  ])
}

/** The channel came later: a record without it is of the native one. */
type RegistrationFields = [number, string, string, string, number, number, number, Channel?]
type TopicFields = [number, string, string, number, number]

export function decodeDeviceRecord(bytes: Uint8Array): DeviceRecord {
  const fields: unknown = packr.unpack(bytes)
  if (!Array.isArray(fields) || fields[0] !== RECORD_VERSION) throw new Error('device record: unknown version')
  const registrations = fields[3] as RegistrationFields[]
  const topics = fields[4] as TopicFields[]
  const [day, count] = fields.slice(5) as (number | undefined)[]
  return {
    ...(day !== undefined && count !== undefined ? { today: { day, count } } : {}),
    version: fields[1] as number,
    nextNumber: fields[2] as number,
    registrations: registrations.map(
      ([number, project, application, user, createdAtMs, since, addedVersion, channel = 'native']) => ({
        ...{ number, project, application, user, channel },
        ...{ createdAtMs, since, addedVersion },
      }),
    ),
    topics: topics.map(([registration, project, topic, since, addedVersion]) => ({
      registration,
      project,
      topic,
      since,
      addedVersion,
    })),
  }
}

/** Most compare-and-set attempts of one update; one device has one connection, so they hardly ever collide. */
const ATTEMPTS_MAX = 8

/** The table DEVICES. Every method rejects with BrokerError where the store is away. */
export class DeviceStore {
  constructor(private readonly table: Table) {}

  /** The record, empty where the device has none. */
  async read(device: string, options?: { authoritative?: boolean }): Promise<DeviceRecord> {
    const entry = await this.table.get(deviceKey(device), options)
    return entry && !entry.deleted ? decodeDeviceRecord(entry.value) : NO_DEVICE_RECORD
  }

  /**
   * Compare-and-set: `change` gets the newest record and returns the one to write, or null to leave it as it is. It may
   * be called again with a newer record. Resolves with the record that stands afterwards.
   */
  async update(device: string, change: (record: DeviceRecord) => DeviceRecord | null): Promise<DeviceRecord> {
    const key = deviceKey(device)
    for (let attempt = 1; ; attempt++) {
      const entry = await this.table.get(key, { authoritative: true })
      const before = entry && !entry.deleted ? decodeDeviceRecord(entry.value) : NO_DEVICE_RECORD
      const after = change(before)
      if (!after) return before
      try {
        await this.table.put(key, encodeDeviceRecord(after), entry?.revision ?? 0)
        return after
      } catch (error) {
        const lostRace = error instanceof BrokerError && error.code === 'wrong_last_sequence'
        if (!lostRace || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }
}
