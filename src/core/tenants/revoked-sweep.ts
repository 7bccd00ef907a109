/**
 * Removes entries of REVOKED that are no longer needed, so that the table does not fill up: revocations of devices whose
 * tokens can no longer be renewed, and the ended registrations that release 0.1 stored there.
 */
import { Bucket, revokedDevicePrefix } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker, Log, Table, TableEntry } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { DeviceStore, type Registration } from '../../store/devices.js'
import { RegistrationIndex } from '../../store/registrations.js'
import { readDeviceRevocation } from '../../store/revoked.js'

export interface RevokedSweepOptions {
  broker: Broker
  clock: Clock
  random: () => number
  log: Logger
}

const ROUND_MS = 3_600_000
/** Wait before the next round if the last one reached REMOVALS_MAX or failed. */
const NEXT_MS = 10_000
/** Most removals in a round. Each purge takes nats-server about 70 ms. */
const REMOVALS_MAX = 200
const REGISTRATION_PREFIX = 'registration.'

export class RevokedSweep {
  private readonly table: Table
  private readonly stream: Log
  private readonly devices: DeviceStore
  private readonly index: RegistrationIndex
  private cancel: (() => void) | null = null
  private running: Promise<void> = Promise.resolve()
  private isStopped = false

  constructor(private readonly options: RevokedSweepOptions) {
    const { broker } = options
    this.table = broker.table(Bucket.REVOKED)
    this.stream = broker.log(`KV_${Bucket.REVOKED}`)
    this.devices = new DeviceStore(broker.table(Bucket.DEVICES))
    this.index = new RegistrationIndex(broker)
  }

  start(): void {
    this.schedule(this.options.random() * NEXT_MS)
  }

  async stop(): Promise<void> {
    this.isStopped = true
    this.cancel?.()
    await this.running
  }

  /** Resolves with the number of removed entries; rejects with BrokerError. */
  async round(): Promise<number> {
    const nowMs = this.options.clock.now()
    const entries = await this.readAll()
    let removed = await this.removeRegistrations(entries)
    for (const entry of entries) {
      if (this.isStopped || removed >= REMOVALS_MAX) break
      if (await this.removeIfOver(entry, nowMs)) removed++
    }
    return removed
  }

  private async removeIfOver(entry: TableEntry, nowMs: number): Promise<boolean> {
    const { key, value, revision, deleted } = entry
    // A delete leaves a marker, which takes space, too. All watches have seen it since the last round.
    if (deleted && key.startsWith(revokedDevicePrefix)) {
      await this.stream.purge(subjectOf(key), revision + 1)
      return true
    }
    const revocation = deleted ? null : readDeviceRevocation(key, value)
    if (!revocation || revocation.untilMs > nowMs) return false
    await this.endAll(revocation.device)
    await this.table.delete(key)
    return true
  }

  /** The device records also have the ends that release 0.1 stored here, so they are purged without markers for watches. */
  private async removeRegistrations(entries: readonly TableEntry[]): Promise<number> {
    const found = entries.filter(({ key }) => key.startsWith(REGISTRATION_PREFIX))
    if (found.length === 0) return 0
    const last = found.reduce((greatest, { revision }) => Math.max(greatest, revision), 0)
    await this.stream.purge(subjectOf(`${REGISTRATION_PREFIX}>`), last + 1)
    return found.length
  }

  /** Ends all registrations of a revoked device, so that senders are refused without the revocation. */
  private async endAll(device: string): Promise<void> {
    let ended: Registration[] = []
    await this.devices.update(device, (before) => {
      ended = before.registrations
      if (before.registrations.length === 0 && before.topics.length === 0) return null
      return { ...before, version: before.version + 1, registrations: [], topics: [] }
    })
    for (const { project, application, user } of ended) await this.index.remove({ project, application, user, device })
  }

  /** Includes the markers of deleted entries. */
  private async readAll(): Promise<TableEntry[]> {
    const entries = new Map<string, TableEntry>()
    const watch = await this.table.watch('>', (entry) => {
      entries.set(entry.key, entry)
    })
    await watch.stop()
    return [...entries.values()]
  }

  private schedule(waitMs: number): void {
    this.cancel = this.options.clock.after(waitMs, () => {
      this.running = this.round().then(
        (removed) => this.scheduleUnlessStopped(removed >= REMOVALS_MAX ? NEXT_MS : ROUND_MS),
        (error: unknown) => {
          this.options.log.warn({ error }, 'cannot sweep REVOKED')
          this.scheduleUnlessStopped(NEXT_MS)
        },
      )
    })
  }

  private scheduleUnlessStopped(waitMs: number): void {
    if (!this.isStopped) this.schedule(waitMs)
  }
}

const subjectOf = (key: string) => `$KV.${Bucket.REVOKED}.${key}`
