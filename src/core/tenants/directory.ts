/**
 * Projects, applications, fleets and revocations in memory, kept current by watches, so that a request needs no read.
 * What the watch has not (yet) seen is read once from the table: something is unknown only if the store says so.
 */
import { Bucket, revokedDevicePrefix, revokedFleetPrefix } from '../../../protocol/subjects.js'
import type { Broker, Consumption, TableEntry } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { readFleetMark } from '../../store/revoked.js'
import {
  APPLICATION_ID,
  type ApplicationRecord,
  FLEET_ID,
  type FleetRecord,
  PROJECT_ID,
  type ProjectRecord,
  RecordTable,
} from '../../store/tenants.js'
import { EndedRegistrations } from './ended-registrations.js'

export class Directory {
  private readonly revokedDevices = new Set<string>()
  /** Fleet to the time from which on its tokens count. */
  private readonly cutOffs = new Map<string, number>()
  private readonly watches: Consumption[] = []

  private constructor(
    private readonly projects: Cached<ProjectRecord>,
    private readonly applications: Cached<ApplicationRecord>,
    private readonly fleets: Cached<FleetRecord>,
    readonly ended: EndedRegistrations,
  ) {}

  /** Resolves once everything present was read. Rejects with BrokerError where the store is away. */
  static async start(broker: Broker, log: Logger): Promise<Directory> {
    const directory = new Directory(
      new Cached(new RecordTable(broker.table(Bucket.PROJECTS), 'project'), PROJECT_ID),
      new Cached(new RecordTable(broker.table(Bucket.APPLICATIONS), 'application'), APPLICATION_ID),
      new Cached(new RecordTable(broker.table(Bucket.FLEETS), 'fleet'), FLEET_ID),
      new EndedRegistrations(broker.bus, log),
    )
    directory.ended.start()
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
    return this.revokedDevices.has(device)
  }

  /** Whether the tokens that the fleet issued at that time are void. */
  isCutOff(fleet: string, issuedAtMs: number): boolean {
    const fromMs = this.cutOffs.get(fleet)
    return fromMs !== undefined && issuedAtMs < fromMs
  }

  /** True only of what this core knows to have ended: the device's record says it of every registration. */
  isRegistrationRevoked(device: string, registration: number): boolean {
    return this.ended.has(device, registration)
  }

  async stop(): Promise<void> {
    this.ended.stop()
    await Promise.all(this.watches.splice(0).map((watch) => watch.stop()))
  }

  private seeRevoked({ key, value, deleted }: TableEntry): void {
    if (key.startsWith(revokedDevicePrefix)) {
      const device = key.slice(revokedDevicePrefix.length)
      if (deleted) this.revokedDevices.delete(device)
      else this.revokedDevices.add(device)
    } else if (key.startsWith(revokedFleetPrefix)) {
      const fleet = key.slice(revokedFleetPrefix.length)
      const fromMs = deleted ? null : readFleetMark(value)
      if (fromMs === null) this.cutOffs.delete(fleet)
      else this.cutOffs.set(fleet, fromMs)
    }
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
