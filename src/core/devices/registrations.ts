/** Operations of app servers and operators on registrations: list, revoke, and change their topics. */
import { CodedError, type ErrorCode } from '../../../protocol/errors.js'
import { BROADCAST_STREAM, Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { mapAtOnce } from '../../collections.js'
import type { MacKeys } from '../../keyring.js'
import type { Broker } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { type Channel, type DeviceRecord, DeviceStore } from '../../store/devices.js'
import { type RegistrationEntry, RegistrationIndex } from '../../store/registrations.js'
import { DeviceNotices } from '../cluster/device-notices.js'
import { toCodedError } from '../domain/errors.js'
import type { DeviceLimits } from '../domain/limits.js'
import { READS_AT_ONCE } from '../domain/query-budget.js'
import { decodeRegistrationId, encodeRegistrationId, type RegistrationAddress } from '../domain/registration-id.js'
import { resolveRegistration } from '../domain/resolve-targets.js'
import type { Directory } from '../tenants/directory.js'
import { endRegistration } from '../tenants/revocation.js'
import { withoutTopic, withTopic } from './device-record.js'

export interface RegistrationsOptions {
  broker: Broker
  directory: Directory
  registrationKeys: MacKeys
  limits: DeviceLimits
  clock: Clock
  log: Logger
}

export interface ListedRegistration {
  registrationId: string
  application: string
  deviceId: string
  /** Empty: the registration has no user. */
  user: string
  channel: Channel
  createdAtMs: number
}

export interface ChangedTopics {
  /** Number of registrations that are in the wanted state now. */
  done: number
  rejected: { target: string; code: ErrorCode }[]
}

/** Device records that one request changes in parallel. */
const PARALLEL_DEVICES = 32
/** Most index entries that are read for one page, including those whose registration has ended. */
const ENTRIES_READ_MAX = 1_000

export class Registrations {
  private readonly devices: DeviceStore
  private readonly index: RegistrationIndex
  private readonly notices: DeviceNotices

  constructor(private readonly options: RegistrationsOptions) {
    const { broker, clock } = options
    this.devices = new DeviceStore(broker.table(Bucket.DEVICES))
    this.index = new RegistrationIndex(broker)
    this.notices = new DeviceNotices(broker, clock)
  }

  /** @param page `from` is 1 for the first page, else `next` of the page before. A short page may have a next one. */
  async list(
    project: string,
    by: { application?: string; user?: string },
    { from, limit }: { from: number; limit: number },
  ): Promise<{ registrations: ListedRegistration[]; next: number | null }> {
    const registrations: ListedRegistration[] = []
    let next: number | null = from
    for (let read = 0; next !== null && registrations.length < limit && read < ENTRIES_READ_MAX; ) {
      const page = await this.index.page(project, by, { from: next, limit: limit - registrations.length })
      const found = await mapAtOnce(page.registrations, READS_AT_ONCE, (entry) => this.readListed(entry))
      registrations.push(...found.filter((one) => one !== null))
      read += page.registrations.length
      next = page.next
    }
    return { registrations, next }
  }

  /**
   * Ends a registration. When this resolves, senders are refused, and the device's worker has left its groups. Idempotent.
   * Throws CodedError `unknown_registration` or `foreign_registration`.
   */
  async revoke(project: string, registrationId: string): Promise<RegistrationAddress> {
    const address = this.addressOf(project, registrationId)
    const stores = { devices: this.devices, index: this.index, ended: this.options.directory.ended }
    await endRegistration(stores, address)
    await this.notices.changed(address.device)
    return address
  }

  /** @param subscribed the wanted state. A registration that is in this state already counts as done. */
  async changeTopic(
    project: string,
    topic: string,
    registrationIds: readonly string[],
    subscribed: boolean,
  ): Promise<ChangedTopics> {
    const { lastSequence: since } = await this.options.broker.log(BROADCAST_STREAM).state()
    const rejected: ChangedTopics['rejected'] = []
    const byDevice = new Map<string, { target: string; registration: number }[]>()
    for (const target of new Set(registrationIds)) {
      const found = resolveRegistration(this.options, project, target)
      if (typeof found === 'string') {
        rejected.push({ target, code: found })
        continue
      }
      const { device, registration } = found
      byDevice.set(device, [...(byDevice.get(device) ?? []), { target, registration }])
    }
    const waiting = [...byDevice]
    let done = 0
    const drain = async () => {
      for (let next = waiting.pop(); next; next = waiting.pop()) {
        const [device, targets] = next
        const failed = await this.changeDevice(device, targets, { topic, since, subscribed })
        rejected.push(...failed)
        done += targets.length - failed.length
      }
    }
    await Promise.all(Array.from({ length: PARALLEL_DEVICES }, drain))
    return { done, rejected }
  }

  /** Changes one device's record, and returns the targets that failed. */
  private async changeDevice(
    device: string,
    targets: readonly { target: string; registration: number }[],
    { topic, since, subscribed }: { topic: string; since: number; subscribed: boolean },
  ): Promise<ChangedTopics['rejected']> {
    const { limits, log } = this.options
    const { topicsMax } = limits
    let failed: ChangedTopics['rejected'] = []
    const change = (record: DeviceRecord, registration: number) =>
      subscribed
        ? withTopic(record, { registration, topic, since, topicsMax })
        : withoutTopic(record, registration, topic)
    try {
      await this.devices.update(device, (before) => {
        failed = []
        let record = before
        for (const { target, registration } of targets) {
          try {
            record = change(record, registration) ?? record
          } catch (error) {
            const { code } = toCodedError(error, log, 'topics')
            // The signature of the registrationId is valid, so the registration existed and has ended.
            failed.push({ target, code: code === 'unknown_registration' ? 'revoked_registration' : code })
          }
        }
        return record === before ? null : record
      })
      // Sent even if the record did not change: the caller may repeat a request whose notice was lost.
      await this.notices.changed(device)
      return failed
    } catch (error) {
      const { code } = toCodedError(error, log, 'topics')
      return targets.map(({ target }) => ({ target, code }))
    }
  }

  /** Null: the device has no such registration, or is revoked. */
  private async readListed({
    project,
    application,
    user,
    device,
  }: RegistrationEntry): Promise<ListedRegistration | null> {
    if (this.options.directory.isDeviceRevoked(device)) return null
    const { registrations } = await this.devices.read(device)
    const found = registrations.find((r) => r.project === project && r.application === application && r.user === user)
    if (!found) return null
    const { number: registration, channel, createdAtMs } = found
    const address = { project, application, device, registration }
    const registrationId = encodeRegistrationId(this.options.registrationKeys.active, address)
    return { registrationId, application, deviceId: device, user, channel, createdAtMs }
  }

  private addressOf(project: string, registrationId: string): RegistrationAddress {
    const address = decodeRegistrationId(this.options.registrationKeys, registrationId)
    if (!address) throw new CodedError('unknown_registration')
    if (address.project !== project) throw new CodedError('foreign_registration')
    return address
  }
}
