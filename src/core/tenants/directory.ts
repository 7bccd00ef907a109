/**
 * Keeps projects, applications, fleets and revocations in memory, so that requests need no read. Watches on the tables keep
 * them current. A record that is not in memory is read from its table: a watch may be late.
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
  /** Maps a fleet to the time of its cut-off, Unix milliseconds. Tokens issued before that are void. */
  private readonly cutOffs = new Map<string, number>()
  private readonly watches: Consumption[] = []

  private constructor(
    private readonly projects: RecordCache<ProjectRecord>,
    private readonly applications: RecordCache<ApplicationRecord>,
    private readonly fleets: RecordCache<FleetRecord>,
    readonly ended: EndedRegistrations,
  ) {}

  /** Resolves when all present records are in memory. Rejects with BrokerError. */
  static async start(broker: Broker, log: Logger): Promise<Directory> {
    const directory = new Directory(
      new RecordCache(new RecordTable(broker.table(Bucket.PROJECTS), 'project'), PROJECT_ID),
      new RecordCache(new RecordTable(broker.table(Bucket.APPLICATIONS), 'application'), APPLICATION_ID),
      new RecordCache(new RecordTable(broker.table(Bucket.FLEETS), 'fleet'), FLEET_ID),
      new EndedRegistrations(broker.bus, log),
    )
    directory.ended.start()
    try {
      for (const cache of [directory.projects, directory.applications, directory.fleets]) {
        directory.watches.push(await cache.watch(log))
      }
      const revoked = broker.table(Bucket.REVOKED)
      directory.watches.push(await revoked.watch('>', (entry) => directory.applyRevocation(entry)))
    } catch (error) {
      await directory.stop()
      throw error
    }
    return directory
  }

  project(id: string): Promise<ProjectRecord | null> {
    return this.projects.find(id)
  }

  /** The project of a service account. A client id ends in its project's id, so no list is searched. */
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

  /** Whether a token that the fleet's device got at `issuedAtMs` is void. */
  isCutOff(fleet: string, issuedAtMs: number): boolean {
    const fromMs = this.cutOffs.get(fleet)
    return fromMs !== undefined && issuedAtMs < fromMs
  }

  /** False also if this core does not know of the end yet. Only the device's record is authoritative. */
  isRegistrationRevoked(device: string, registration: number): boolean {
    return this.ended.has(device, registration)
  }

  async stop(): Promise<void> {
    this.ended.stop()
    await Promise.all(this.watches.splice(0).map((watch) => watch.stop()))
  }

  private applyRevocation({ key, value, deleted }: TableEntry): void {
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

class RecordCache<R extends { v: 1; id: string }> {
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
        // A record of a newer version must not stop the watch. find() reads such a record again and rejects with the error.
        log.error({ error, table: this.store.table.name, key: entry.key }, 'cannot decode a record')
      }
    })
  }

  /** The result of a read is not cached: only the watch writes the map, so that it follows the order of the table. */
  async find(id: string): Promise<R | null> {
    if (!this.idPattern.test(id)) return null
    return this.records.get(id) ?? (await this.store.get(id))
  }
}
