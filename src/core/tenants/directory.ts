/**
 * Projects, applications, fleets and revocations in memory, kept current by watches, so that a request needs no read.
 * What the watch has not (yet) seen is read once from the table: something is unknown only if the store says so.
 */
import { Bucket } from '../../../protocol/subjects.js'
import type { Broker, Consumption, TableEntry } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import {
  APPLICATION_ID,
  type ApplicationRecord,
  FLEET_ID,
  type FleetRecord,
  PROJECT_ID,
  type ProjectRecord,
  RecordTable,
} from '../../store/tenants.js'
import { revokedDeviceKey, revokedRegistrationKey } from './revocation.js'

export class Directory {
  private readonly revoked = new Set<string>()
  private readonly watches: Consumption[] = []

  private constructor(
    private readonly projects: Cached<ProjectRecord>,
    private readonly applications: Cached<ApplicationRecord>,
    private readonly fleets: Cached<FleetRecord>,
  ) {}

  /** Resolves once everything present was read. Rejects with BrokerError where the store is away. */
  static async start(broker: Broker, log: Logger): Promise<Directory> {
    const directory = new Directory(
      new Cached(new RecordTable(broker.table(Bucket.PROJECTS), 'project'), PROJECT_ID),
      new Cached(new RecordTable(broker.table(Bucket.APPLICATIONS), 'application'), APPLICATION_ID),
      new Cached(new RecordTable(broker.table(Bucket.FLEETS), 'fleet'), FLEET_ID),
    )
    try {
      for (const cached of [directory.projects, directory.applications, directory.fleets]) {
        directory.watches.push(await cached.watch(log))
      }
      const revoked = broker.table(Bucket.REVOKED)
      directory.watches.push(await revoked.watch('>', (entry) => directory.seeRevoked(entry)))
    } catch (error) {
      await directory.stop()
      throw error
    }
    return directory
  }

  project(id: string): Promise<ProjectRecord | null> {
    return this.projects.find(id)
  }

  /** Whose service account this is. A client id ends in its project, so that no list has to be searched. */
  async projectOfClient(clientId: string): Promise<ProjectRecord | null> {
    const project = await this.projects.find(clientId.slice(clientId.indexOf('.') + 1))
    return project?.serviceAccount.clientId === clientId ? project : null
  }

  application(id: string): Promise<ApplicationRecord | null> {
    return this.applications.find(id)
  }

  fleet(id: string): Promise<FleetRecord | null> {
    return this.fleets.find(id)
  }

  isDeviceRevoked(device: string): boolean {
    return this.revoked.has(revokedDeviceKey(device))
  }

  isRegistrationRevoked(device: string, registration: number): boolean {
    return this.revoked.has(revokedRegistrationKey(device, registration))
  }

  async stop(): Promise<void> {
    await Promise.all(this.watches.splice(0).map((watch) => watch.stop()))
  }

  private seeRevoked(entry: TableEntry): void {
    if (entry.deleted) this.revoked.delete(entry.key)
    else this.revoked.add(entry.key)
  }
}

class Cached<R extends { v: 1; id: string }> {
  private readonly records = new Map<string, R>()

  constructor(
    private readonly store: RecordTable<R>,
    private readonly idPattern: RegExp,
  ) {}

  watch(log: Logger): Promise<Consumption> {
    return this.store.table.watch('>', (entry) => {
      this.records.delete(entry.key)
      if (entry.deleted) return
      try {
        this.records.set(entry.key, this.store.decode(entry.value))
      } catch (error) {
        // One record of a newer version must not stop the others; whoever asks for this one reads it and is told.
        log.error({ error, table: this.store.table.name, key: entry.key }, 'a record that cannot be read')
      }
    })
  }

  /** A read that finds something is not remembered: only the watch writes the map, in the order of the table. */
  async find(id: string): Promise<R | null> {
    if (!this.idPattern.test(id)) return null
    return this.records.get(id) ?? (await this.store.get(id))
  }
}
