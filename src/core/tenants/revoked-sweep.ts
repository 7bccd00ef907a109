/**
 * Takes out of REVOKED what has no use any more, so that the table holds the devices that could still come back and no
 * others: revocations of devices whose tokens can be renewed no longer, and the registrations that release 0.1 wrote there.
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
/** A round that found too much is followed by another one soon. */
const NEXT_MS = 10_000
/** A purge takes nats-server some 70 ms. */
const REMOVALS_MAX = 200
const REGISTRATION_PREFIX = 'registration.'

export class RevokedSweep {
  private readonly table: Table
  private readonly stream: Log
  private readonly devices: DeviceStore
  private readonly index: RegistrationIndex
  private cancel: (() => void) | null = null
  private underWay: Promise<void> = Promise.resolve()
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
    await this.underWay
  }

  /** Resolves with the number of entries that were taken out; rejects with BrokerError. */
  async round(): Promise<number> {
    const nowMs = this.options.clock.now()
    const entries = await this.all()
    let removed = await this.removeRegistrations(entries)
    for (const entry of entries) {
      if (this.isStopped || removed >= REMOVALS_MAX) break
      if (await this.remove(entry, nowMs)) removed++
    }
    return removed
  }

  private async remove(entry: TableEntry, nowMs: number): Promise<boolean> {
    const { key, value, revision, deleted } = entry
    // Those who watch have heard of it for a round: the mark itself takes room too.
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

  /** What release 0.1 wrote when a registration ended: the records of the devices say it too, so nobody has to hear of it. */
  private async removeRegistrations(entries: readonly TableEntry[]): Promise<number> {
    const found = entries.filter(({ key }) => key.startsWith(REGISTRATION_PREFIX))
    if (found.length === 0) return 0
    const last = found.reduce((greatest, { revision }) => Math.max(greatest, revision), 0)
    await this.stream.purge(subjectOf(`${REGISTRATION_PREFIX}>`), last + 1)
    return found.length
  }

  /** From now on the record of the device says what the revocation said: senders are told that its registrations ended. */
  private async endAll(device: string): Promise<void> {
    let ended: Registration[] = []
    await this.devices.update(device, (before) => {
      ended = before.registrations
      if (before.registrations.length === 0 && before.topics.length === 0) return null
      return { ...before, version: before.version + 1, registrations: [], topics: [] }
    })
    for (const { project, application, user } of ended) await this.index.remove({ project, application, user, device })
  }

  /** Deleted ones included. */
  private async all(): Promise<TableEntry[]> {
    const entries = new Map<string, TableEntry>()
    const watch = await this.table.watch('>', (entry) => {
      entries.set(entry.key, entry)
    })
    await watch.stop()
    return [...entries.values()]
  }

  private schedule(waitMs: number): void {
    this.cancel = this.options.clock.after(waitMs, () => {
      this.underWay = this.round().then(
        (removed) => this.next(removed >= REMOVALS_MAX ? NEXT_MS : ROUND_MS),
        (error: unknown) => {
          this.options.log.warn({ error }, 'REVOKED could not be swept')
          this.next(NEXT_MS)
        },
      )
    })
  }

  private next(waitMs: number): void {
    if (!this.isStopped) this.schedule(waitMs)
  }
}

const subjectOf = (key: string) => `$KV.${Bucket.REVOKED}.${key}`
