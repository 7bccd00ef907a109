/** What app servers and operators do with registrations: list them, end them, and subscribe them to topics. */
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
  /** Keys of registrationIds by kid, and the one that signs now. */
  registrationKeys: MacKeys
  limits: DeviceLimits
  clock: Clock
  log: Logger
}

export interface ListedRegistration {
  registrationId: string
  application: string
  deviceId: string
  /** Empty: none. */
  user: string
  channel: Channel
  createdAtMs: number
}

export interface ChangedTopics {
  /** Registrations for which it is now as it was asked. */
  done: number
  rejected: { target: string; code: ErrorCode }[]
}

/** Devices whose records are changed at once by one request. */
const DEVICES_AT_ONCE = 32
/** Entries of the list looked at for one page, whatever became of them. */
const LOOKS_MAX = 1_000

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

  /** `from`: what the page before gave as `next`; 1 at first. A page may be short and have a next one all the same. */
  async list(
    project: string,
    by: { application?: string; user?: string },
    { from, limit }: { from: number; limit: number },
  ): Promise<{ registrations: ListedRegistration[]; next: number | null }> {
    const registrations: ListedRegistration[] = []
    let next: number | null = from
    for (let looks = 0; next !== null && registrations.length < limit && looks < LOOKS_MAX; ) {
      const page = await this.index.page(project, by, { from: next, limit: limit - registrations.length })
      const found = await mapAtOnce(page.registrations, READS_AT_ONCE, (entry) => this.behind(entry))
      registrations.push(...found.filter((one) => one !== null))
      looks += page.registrations.length
      next = page.next
    }
    return { registrations, next }
  }

  /**
   * Senders are told from now on, and the worker that has the device has left its groups; repeating it is harmless.
   * Throws CodedError `unknown_registration` or `foreign_registration`.
   */
  async revoke(project: string, registrationId: string): Promise<RegistrationAddress> {
    const address = this.addressOf(project, registrationId)
    const stores = { devices: this.devices, index: this.index, ended: this.options.directory.ended }
    await endRegistration(stores, address)
    await this.notices.changed(address.device)
    return address
  }

  /** `wanted`: subscribed or not. Who is subscribed (or is not) already counts as done. */
  async changeTopic(
    project: string,
    topic: string,
    registrationIds: readonly string[],
    wanted: boolean,
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
    const work = async () => {
      for (let one = waiting.pop(); one; one = waiting.pop()) {
        const [device, targets] = one
        const failed = await this.changeDevice(device, targets, { topic, since, wanted })
        rejected.push(...failed)
        done += targets.length - failed.length
      }
    }
    await Promise.all(Array.from({ length: DEVICES_AT_ONCE }, work))
    return { done, rejected }
  }

  /** Those of the targets for which it could not be done; one that is repeated later does no harm. */
  private async changeDevice(
    device: string,
    targets: readonly { target: string; registration: number }[],
    { topic, since, wanted }: { topic: string; since: number; wanted: boolean },
  ): Promise<ChangedTopics['rejected']> {
    const { limits, log } = this.options
    const { topicsMax } = limits
    let failed: ChangedTopics['rejected'] = []
    const change = (record: DeviceRecord, registration: number) =>
      wanted ? withTopic(record, { registration, topic, since, topicsMax }) : withoutTopic(record, registration, topic)
    try {
      await this.devices.update(device, (before) => {
        failed = []
        let record = before
        for (const { target, registration } of targets) {
          try {
            record = change(record, registration) ?? record
          } catch (error) {
            const { code } = toCodedError(error, log, 'topics')
            // Its registrationId is a true one, so there was such a registration.
            failed.push({ target, code: code === 'unknown_registration' ? 'revoked_registration' : code })
          }
        }
        return record === before ? null : record
      })
      // Also where nothing changed: somebody repeats this because the notice got lost.
      await this.notices.changed(device)
      return failed
    } catch (error) {
      const { code } = toCodedError(error, log, 'topics')
      return targets.map(({ target }) => ({ target, code }))
    }
  }

  private async behind({ project, application, user, device }: RegistrationEntry): Promise<ListedRegistration | null> {
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
