/**
 * Registrations by project, application and user (stream REGISTRATIONS), so that they can be listed. A list of hints:
 * the device's record decides, and an entry without a registration behind it is passed over.
 *
 * An entry is written before its registration and deleted after it. Whoever does either looks afterwards whether the
 * other did the opposite meanwhile (core/devices.ts, tenants/revocation.ts): of a registration and an end of it that
 * run into each other, one of the two sees the other.
 */
import { REGISTRATIONS_STREAM, registrationFilter, registrationSubject } from '../../protocol/subjects.js'
import type { Fabric, Log } from '../nats/broker.js'

/** A device has an application for a user once at most. */
export interface RegistrationPlace {
  project: string
  application: string
  /** Empty: no user. */
  user: string
  device: string
}

export interface PlacePage {
  places: RegistrationPlace[]
  /** Where the next page starts; null: there is none. */
  next: number | null
}

/** Methods reject with FabricError where the store is away. */
export class RegistrationIndex {
  private readonly log: Log

  constructor(fabric: Fabric) {
    this.log = fabric.log(REGISTRATIONS_STREAM)
  }

  async put(place: RegistrationPlace): Promise<void> {
    const { project, application, user, device } = place
    await this.log.append(subjectOf(place), Buffer.from(JSON.stringify([1, project, application, user, device])))
  }

  async has(place: RegistrationPlace): Promise<boolean> {
    return (await this.log.last(subjectOf(place), { authoritative: true })) !== null
  }

  async remove(place: RegistrationPlace): Promise<void> {
    const record = await this.log.last(subjectOf(place), { authoritative: true })
    if (record) await this.log.delete(record.sequence)
  }

  /** In the order in which they were made. */
  async page(
    project: string,
    by: { application?: string; user?: string },
    { from, limit }: { from: number; limit: number },
  ): Promise<PlacePage> {
    const filter = registrationFilter(project, by)
    const places: RegistrationPlace[] = []
    for (let sequence = from; ; ) {
      const record = await this.log.next(filter, sequence)
      if (record === null) return { places, next: null }
      if (places.length === limit) return { places, next: record.sequence }
      places.push(decode(record.body))
      sequence = record.sequence + 1
    }
  }
}

const subjectOf = ({ project, application, user, device }: RegistrationPlace) =>
  registrationSubject(project, application, user, device)

function decode(body: Uint8Array): RegistrationPlace {
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
