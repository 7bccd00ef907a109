/**
 * Answers the requests of devices, which their worker forwards: register, unregister, subscribe and unsubscribe. Cores
 * share the requests in a queue group, so any core answers any device. A core changes the device's record by compare-and-set,
 * so that two cores cannot overwrite each other's changes.
 */
import {
  type DeviceReply,
  type DeviceRequest,
  decodeDeviceRequest,
  EnvelopeError,
  encodeDeviceReply,
} from '../../../protocol/envelope.js'
import { CodedError } from '../../../protocol/errors.js'
import { BROADCAST_STREAM, Bucket, CORE_QUEUE, DEVICE_REQUEST_SUBJECT } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { DEVICE_ID } from '../../device-token.js'
import type { MacKeys } from '../../keyring.js'
import type { Broker, BusMessage, Log, Subscription } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { type DeviceRecord, DeviceStore, type Registration, registeredToday } from '../../store/devices.js'
import { RegistrationIndex } from '../../store/registrations.js'
import { type ProjectRecord, TOPIC_NAME } from '../../store/tenants.js'
import { retryAfterMs, toCodedError } from '../domain/errors.js'
import type { DeviceLimits } from '../domain/limits.js'
import { encodeRegistrationId } from '../domain/registration-id.js'
import { verifyUserToken } from '../tenants/auth/tokens.js'
import type { Directory } from '../tenants/directory.js'
import { endRegistration, type RegistrationStores } from '../tenants/revocation.js'
import { withoutTopic, withTopic } from './device-record.js'

export interface DeviceServiceOptions {
  broker: Broker
  directory: Directory
  registrationKeys: MacKeys
  limits: DeviceLimits
  /** Lowest number for a new registration; above 1 after a restore of the store (store/format.ts). */
  firstNumber?: number
  clock: Clock
  log: Logger
}

/** The result of a request. `registrationId` and `project` are empty unless the request was a register. */
interface Answer {
  registration: number
  registrationId: string
  project: string
  /** The device's record after the request. */
  record: DeviceRecord
}

export class DeviceService {
  readonly devices: DeviceStore
  readonly ended: RegistrationStores['ended']
  readonly index: RegistrationIndex
  private readonly broadcast: Log
  private readonly inFlight = new Set<Promise<void>>()
  private subscription: Subscription | null = null

  constructor(private readonly options: DeviceServiceOptions) {
    const { broker, directory } = options
    this.devices = new DeviceStore(broker.table(Bucket.DEVICES))
    this.ended = directory.ended
    this.index = new RegistrationIndex(broker)
    this.broadcast = broker.log(BROADCAST_STREAM)
  }

  start(): void {
    this.subscription = this.options.broker.bus.subscribe(DEVICE_REQUEST_SUBJECT, (message) => this.receive(message), {
      queue: CORE_QUEUE,
    })
  }

  /** Takes no further requests, and resolves when all pending ones are answered. */
  async stop(): Promise<void> {
    this.subscription?.unsubscribe()
    this.subscription = null
    await Promise.all(this.inFlight)
  }

  /** Never rejects: the reply carries the code of an error. */
  async handle(body: Uint8Array): Promise<DeviceReply> {
    try {
      const request = decode(body)
      const { registration, registrationId, project, record } = await this.serve(request)
      return { ok: true, registration, registrationId, project, subscriptions: record.version }
    } catch (error) {
      const coded = toCodedError(error, this.options.log, 'device request')
      return { ok: false, code: coded.code, detail: coded.message, retryAfterMs: retryAfterMs(coded.code) }
    }
  }

  private receive(message: BusMessage): void {
    if (!message.reply) return
    const done = this.reply(message).finally(() => this.inFlight.delete(done))
    this.inFlight.add(done)
  }

  private async reply(message: BusMessage): Promise<void> {
    const tooMany = this.inFlight.size >= this.options.limits.requestsMax
    const reply = tooMany ? OVERLOADED : await this.handle(message.body)
    try {
      this.options.broker.bus.publish(message.reply, encodeDeviceReply(reply))
    } catch (error) {
      // The worker's request times out, and the device sends it again.
      this.options.log.warn({ error }, 'cannot answer a device request')
    }
  }

  private serve(request: DeviceRequest): Promise<Answer> {
    if (!DEVICE_ID.test(request.device) || this.options.directory.isDeviceRevoked(request.device)) {
      throw new CodedError('forbidden', 'the device was revoked')
    }
    switch (request.kind) {
      case 'register':
        return this.register(request)
      case 'unregister':
        return this.unregister(request)
      case 'subscribe':
        return this.subscribe(request)
      case 'unsubscribe':
        return this.unsubscribe(request)
      default:
        throw new CodedError('invalid_request', 'a device request of an unknown kind')
    }
  }

  /** Registering the same application and user again returns the same number, and thereby the same registrationId. */
  private async register(request: DeviceRequest & { kind: 'register' }): Promise<Answer> {
    const { device, fleet = '', application, userToken } = request
    const { project, needsUser } = await this.activeProjectOf(application)
    await this.checkFleet(fleet, project.id)
    if (needsUser && !userToken) {
      throw new CodedError('bad_user_token', 'this application registers with a user token only')
    }
    const nowMs = this.options.clock.now()
    const { registrationsMax, registrationsPerDay } = this.options.limits
    const user = userToken ? await verifyUserToken(userToken, { project, application, device, nowMs }) : ''
    const isSame = (r: Registration) => r.application === application && r.user === user
    const current = await this.devices.read(device, { authoritative: true })
    const known = current.registrations.find(isSame)
    if (known) return this.answer(device, known, current)

    const entry = { project: project.id, application, user, device }
    const since = await this.lastBroadcast()
    // The index entry is only a hint for lists, and the record decides. An entry without a registration does no harm, but a
    // registration without an entry is in no list. So the entry is written first.
    await this.index.put(entry)
    const record = await this.devices.update(device, (before) => {
      if (before.registrations.some(isSame)) return null
      if (before.registrations.length >= registrationsMax) throw new CodedError('too_many_registrations')
      const today = registeredToday(before, nowMs)
      // Limits an app that registers and unregisters in a loop, because each round costs several writes.
      if (today.count >= registrationsPerDay) {
        throw new CodedError('rate_limited', `more than ${registrationsPerDay} registrations of this device today`)
      }
      const addedVersion = before.version + 1
      const number = Math.max(before.nextNumber, this.options.firstNumber ?? 1)
      const added = { number, ...entry, channel: 'native' as const }
      return {
        ...before,
        version: addedVersion,
        nextNumber: number + 1,
        today: { day: today.day, count: today.count + 1 },
        registrations: [...before.registrations, { ...added, createdAtMs: nowMs, since, addedVersion }],
      }
    })
    // The end of an earlier registration of the same application and user may have removed the entry in the meantime.
    if (!(await this.index.has(entry))) await this.index.put(entry)
    const registration = record.registrations.find(isSame)
    if (!registration) throw new CodedError('internal', 'the registration is missing from the record after its write')
    return this.answer(device, registration, record)
  }

  private async unregister({ device, registration }: DeviceRequest & { kind: 'unregister' }): Promise<Answer> {
    const record = await endRegistration(this, { device, registration })
    return { registration, registrationId: '', project: '', record }
  }

  private async subscribe(request: DeviceRequest & { kind: 'subscribe' }): Promise<Answer> {
    const { device, registration, topic } = request
    if (!TOPIC_NAME.test(topic)) throw new CodedError('invalid_request', 'not the name of a topic', { field: 'topic' })
    const since = await this.lastBroadcast()
    const { topicsMax } = this.options.limits
    const change = { registration, topic, since, topicsMax }
    const record = await this.devices.update(device, (before) => withTopic(before, change))
    return { registration, registrationId: '', project: '', record }
  }

  private async unsubscribe(request: DeviceRequest & { kind: 'unsubscribe' }): Promise<Answer> {
    const { device, registration, topic } = request
    const record = await this.devices.update(device, (before) => withoutTopic(before, registration, topic))
    return { registration, registrationId: '', project: '', record }
  }

  private async activeProjectOf(applicationId: string): Promise<{ project: ProjectRecord; needsUser: boolean }> {
    const { directory } = this.options
    const application = await directory.application(applicationId)
    const project = application ? await directory.project(application.project) : null
    if (!application || !project) throw new CodedError('unknown_application')
    if (!project.isActive) throw new CodedError('project_inactive')
    return { project, needsUser: application.needsUser === true }
  }

  /**
   * Throws CodedError `unknown_application`: a device does not learn which applications other fleets have. A worker of a
   * version before 0.2.0 does not name the fleet, and its devices register as they did then.
   */
  private async checkFleet(id: string, project: string): Promise<void> {
    const fleet = id === '' ? null : await this.options.directory.fleet(id)
    if (fleet?.projects && !fleet.projects.includes(project)) throw new CodedError('unknown_application')
  }

  /**
   * Call it before the write of the record: then each group message that is accepted after the answer has a greater sequence.
   * A message that is accepted in between may reach the device, too, which does no harm.
   */
  private async lastBroadcast(): Promise<number> {
    return (await this.broadcast.state()).lastSequence
  }

  private answer(device: string, registration: Registration, record: DeviceRecord): Answer {
    const { project, application, number } = registration
    const address = { project, application, device, registration: number }
    const registrationId = encodeRegistrationId(this.options.registrationKeys.active, address)
    return { registration: number, registrationId, project, record }
  }
}

const OVERLOADED: DeviceReply = {
  ok: false,
  code: 'overloaded',
  detail: 'this core is answering too many device requests',
  retryAfterMs: retryAfterMs('overloaded'),
}

function decode(body: Uint8Array): DeviceRequest {
  try {
    return decodeDeviceRequest(body)
  } catch (error) {
    if (error instanceof EnvelopeError) throw new CodedError('invalid_request', error.message, {}, { cause: error })
    throw error
  }
}
