/**
 * Registrations by project, application and user (stream REGISTRATIONS), so that they can be listed. A list of hints:
 * the device's record decides, and an entry without a registration behind it is passed over.
 *
 * An entry is written before its registration and deleted after it. Whoever does either looks afterwards whether the
 * other did the opposite meanwhile (core/devices.ts, tenants/revocation.ts): of a registration and an end of it that
 * run into each other, one of the two sees the other.
 */
import { REGISTRATIONS_STREAM, registrationFilter, registrationSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

/** A device has an application for a user once at most. */
export interface RegistrationEntry {
  project: string
  application: string
  /** Empty: no user. */
  user: string
  device: string
}

export interface RegistrationPage {
  registrations: RegistrationEntry[]
  /** Where the next page starts; null: there is none. */
  next: number | null
}

/** Methods reject with BrokerError where the store is away. */
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

  /** In the order in which they were made. */
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
