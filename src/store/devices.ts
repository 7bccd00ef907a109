/**
 * The registrations and topics of a device (table DEVICES). Core writes them, workers read them.
 *
 * Every change raises `version`. A registration or subscription keeps the version that added it and `since`: the last
 * sequence of BROADCAST that was read before the record was written. A group message that is accepted after the device
 * has its answer therefore has a higher sequence.
 */

import { Packr } from 'msgpackr'
import { broadcastSubject, deviceKey } from '../../protocol/subjects.js'
import { isConflict, type Table } from '../nats/broker.js'

/** Where the device starts to receive the messages of a group. */
export interface GroupStart {
  /** The first group message for the device is the next after this sequence of BROADCAST. */
  since: number
  /** Version of the record that added it. A cursor of a lower version does not include the group and starts at `since`. */
  addedVersion: number
}

/** How a registration is reached: through a connection of ours, or later through the bridges. */
export const CHANNELS = ['native'] as const
export type Channel = (typeof CHANNELS)[number]

export interface Registration extends GroupStart {
  /** 1 or higher. A device never uses a number twice. */
  number: number
  project: string
  application: string
  /** Empty if the registration has no user. */
  user: string
  channel: Channel
  createdAtMs: number
}

export interface TopicSubscription extends GroupStart {
  /** The registration that asked for the topic. The topic belongs to its project. */
  registration: number
  project: string
  topic: string
}

export interface DeviceRecord {
  registrations: Registration[]
  topics: TopicSubscription[]
  /** Version of the subscriptions; 0 if the device never registered anything. */
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
export interface Group extends GroupStart {
  /** Subject of the messages of the group in BROADCAST: `broadcast.<project>.<kind>.<name>`. */
  subject: string
  /** The numbers of the registrations that are in the group, ascending. */
  registrations: number[]
}

export const NO_DEVICE_RECORD: Readonly<DeviceRecord> = { registrations: [], topics: [], version: 0, nextNumber: 1 }

/**
 * The groups of a device, without duplicates: the applications and users of its registrations, and its topics. If several
 * registrations share a group, the first one determines the start.
 */
export function groupsOf(record: DeviceRecord): Group[] {
  const groups = new Map<string, Group>()
  const add = (subject: string, number: number, { since, addedVersion }: GroupStart) => {
    const known = groups.get(subject)
    const registrations = [...new Set([...(known?.registrations ?? []), number])].sort((a, b) => a - b)
    const start = known && known.addedVersion <= addedVersion ? known : { since, addedVersion }
    groups.set(subject, { subject, registrations, since: start.since, addedVersion: start.addedVersion })
  }
  for (const r of record.registrations) {
    add(broadcastSubject(r.project, 'app', r.application), r.number, r)
    if (r.user) add(broadcastSubject(r.project, 'user', r.user), r.number, r)
  }
  for (const t of record.topics) add(broadcastSubject(t.project, 'topic', t.topic), t.registration, t)
  return [...groups.values()]
}

const RECORD_VERSION = 1
const packr = new Packr({ useRecords: false })

/** Encodes [v, version, nextNumber, registrations, topics, day, count] in msgpack; registrations and topics are lists of lists. */
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

/** Records from before the channel existed have none; they are `native`. */
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
        number,
        project,
        application,
        user,
        channel,
        createdAtMs,
        since,
        addedVersion,
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

/** Most attempts of one compare-and-set. A device has one connection, so its updates hardly ever collide. */
const ATTEMPTS_MAX = 8

/** The table DEVICES. Every method rejects with BrokerError if the store is unavailable. */
export class DeviceStore {
  constructor(private readonly table: Table) {}

  /** The record of the device, or NO_DEVICE_RECORD. */
  async read(device: string, options?: { authoritative?: boolean }): Promise<DeviceRecord> {
    const entry = await this.table.get(deviceKey(device), options)
    return entry && !entry.deleted ? decodeDeviceRecord(entry.value) : NO_DEVICE_RECORD
  }

  /**
   * Compare-and-set. `change` gets the newest record and returns the record to write, or null to change nothing; it runs
   * again if another write was faster. Resolves with the record that is stored afterwards.
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
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }
}
