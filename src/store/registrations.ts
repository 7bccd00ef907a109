/**
 * Registrations by project, application and user (stream REGISTRATIONS), for lists. The entries are hints: the device
 * record decides, and a list skips an entry without a registration.
 *
 * An entry is written before its registration and deleted after it. The writer or deleter of an entry checks afterwards
 * whether another process did the opposite in the meantime (core/devices/device-requests.ts,
 * core/tenants/revocation.ts). If a registration and its end happen at the same time, at least one of the two sees the
 * other.
 */
import { REGISTRATIONS_STREAM, registrationFilter, registrationSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

/** A device has at most one registration for an application and user. */
export interface RegistrationEntry {
  project: string
  application: string
  /** Empty if the registration has no user. */
  user: string
  device: string
}

export interface RegistrationPage {
  registrations: RegistrationEntry[]
  /** `from` for the next page; null on the last page. */
  next: number | null
}

/** Methods reject with BrokerError if the store is unavailable. */
export class RegistrationIndex {
  private readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(REGISTRATIONS_STREAM)
  }

  async put(entry: RegistrationEntry): Promise<void> {
    const { project, application, user, device } = entry
    await this.log.append(subjectOf(entry), Buffer.from(JSON.stringify([1, project, application, user, device])))
  }

  async has(entry: RegistrationEntry): Promise<boolean> {
    return (await this.log.last(subjectOf(entry), { authoritative: true })) !== null
  }

  async remove(entry: RegistrationEntry): Promise<void> {
    const record = await this.log.last(subjectOf(entry), { authoritative: true })
    if (record) await this.log.delete(record.sequence)
  }

  /** Registrations in the order of their creation. */
  async page(
    project: string,
    by: { application?: string; user?: string },
    { from, limit }: { from: number; limit: number },
  ): Promise<RegistrationPage> {
    const filter = registrationFilter(project, by)
    const registrations: RegistrationEntry[] = []
    for (let sequence = from; ; ) {
      const record = await this.log.next(filter, sequence)
      if (record === null) return { registrations, next: null }
      if (registrations.length === limit) return { registrations, next: record.sequence }
      registrations.push(decode(record.body))
      sequence = record.sequence + 1
    }
  }
}

const subjectOf = ({ project, application, user, device }: RegistrationEntry) =>
  registrationSubject(project, application, user, device)

function decode(body: Uint8Array): RegistrationEntry {
  const [v, project, application, user, device] = JSON.parse(Buffer.from(body).toString('utf8')) as [
    number,
    string,
    string,
    string,
    string,
  ]
  if (v !== 1) throw new Error(`registration entry: version ${String(v)} is unknown`)
  return { project, application, user, device }
}
