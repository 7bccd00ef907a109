/** Changes to the topics of a device's record, for requests of devices and of app servers. */
import { CodedError } from '../../../protocol/errors.js'
import type { DeviceRecord, Registration } from '../../store/devices.js'

/** Throws CodedError `unknown_registration`. */
export function registrationIn(record: DeviceRecord, number: number): Registration {
  const registration = record.registrations.find((r) => r.number === number)
  if (!registration) throw new CodedError('unknown_registration')
  return registration
}

export interface TopicChange {
  registration: number
  topic: string
  /** Last sequence of BROADCAST before the change. The subscription covers later messages. */
  since: number
  topicsMax: number
}

/** Returns null if the registration is already subscribed. Throws CodedError `unknown_registration` or `too_many_topics`. */
export function withTopic(record: DeviceRecord, change: TopicChange): DeviceRecord | null {
  const { registration, topic, since, topicsMax } = change
  const { project } = registrationIn(record, registration)
  if (record.topics.some((t) => t.registration === registration && t.topic === topic)) return null
  if (record.topics.length >= topicsMax) throw new CodedError('too_many_topics')
  const addedVersion = record.version + 1
  const added = { registration, project, topic, since, addedVersion }
  return { ...record, version: addedVersion, topics: [...record.topics, added] }
}

/** Returns null if the registration is not subscribed. Throws CodedError `unknown_registration`. */
export function withoutTopic(record: DeviceRecord, registration: number, topic: string): DeviceRecord | null {
  registrationIn(record, registration)
  const topics = record.topics.filter((t) => t.registration !== registration || t.topic !== topic)
  return topics.length === record.topics.length ? null : { ...record, version: record.version + 1, topics }
}
