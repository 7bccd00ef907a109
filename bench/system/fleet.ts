/**
 * Many devices at once, as enrolment and REGISTER would have made them, without the way through both: device records
 * are written to the table, tokens and registrationIds are made with the system's own keys.
 */
import { BROADCAST_STREAM, Bucket, deviceKey } from '../../protocol/subjects.js'
import { systemClock } from '../../src/clock.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { createApplication, createProject, mintToken, openTenants } from '../../src/core/tenants/projects.js'
import { mintDeviceToken } from '../../src/device-token.js'
import type { Broker } from '../../src/nats/broker.js'
import { type DeviceRecord, encodeDeviceRecord } from '../../src/store/devices.js'
import { SessionTable } from '../../src/store/sessions.js'
import type { DialectConfig } from '../generator/dialect.js'
import { deviceOf } from '../generator/identity.js'
import type { LocalSystem } from './local-system.js'

export interface Fleet {
  /** Names its devices: 8 of [a-z0-9]. */
  run: string
  project: string
  application: string
}

/** The registration that every device of a fleet has. */
export const REGISTRATION = 1
const TOKEN_SECONDS = 86_400
const IN_FLIGHT = 512

/** A name for devices that no earlier run of this system had. */
export function newRun(): string {
  return Math.floor(Math.random() * 36 ** 8)
    .toString(36)
    .padStart(8, '0')
}

/** A project and an application for the devices of a run. */
export async function createTenant(broker: Broker, run = newRun(), id = `bench-${run}`): Promise<Fleet> {
  const tenants = openTenants(broker, systemClock)
  const { project } = await createProject(tenants, { id, alg: 'ES256' })
  const application = await createApplication(tenants, project.id)
  return { run, project: project.id, application: application.id }
}

/** An access token for the fleet's project. */
export async function accessToken(system: LocalSystem, broker: Broker, fleet: Fleet): Promise<string> {
  const auth = { ...system.config.auth, accessTokenSeconds: TOKEN_SECONDS }
  return (await mintToken(openTenants(broker, systemClock), system.keyring, auth, fleet.project)).token
}

/** What generators need to be these devices. */
export function dialectOf(system: LocalSystem, fleet: Pick<Fleet, 'run'>): DialectConfig {
  const signing = { ...system.keyring.signingKey('deviceToken'), issuer: system.config.auth.issuer }
  return { kind: 'borealis', run: fleet.run, signing }
}

/** The device token that enrolment would have given. */
export function deviceToken(system: LocalSystem, run: string, index: number): string {
  return mintDeviceToken(system.keyring.signingKey('deviceToken'), {
    issuer: system.config.auth.issuer,
    device: deviceOf(run, index),
    fleet: 'fleet_bench',
    nowMs: Date.now(),
    lifetimeMs: TOKEN_SECONDS * 1000,
  }).token
}

export interface RegisterOptions {
  count: number
  first?: number
  /** Topics that each device is subscribed to. */
  topics?: readonly string[]
  onProgress?(done: number): void
}

/** Registers each device for the fleet's application. `broker` is a core's or an admin's. */
export async function registerDevices(broker: Broker, fleet: Fleet, options: RegisterOptions): Promise<void> {
  const { count, first = 0, topics = [], onProgress = () => undefined } = options
  const table = broker.table(Bucket.DEVICES)
  const { lastSequence: since } = await broker.log(BROADCAST_STREAM).state()
  const { project, application } = fleet
  const added = { since, addedVersion: 1 }
  const record: DeviceRecord = {
    registrations: [
      {
        ...{ number: REGISTRATION, project, application, user: '', channel: 'native' as const },
        ...{ createdAtMs: Date.now(), ...added },
      },
    ],
    topics: topics.map((topic) => ({ registration: REGISTRATION, project, topic, ...added })),
    version: 1,
    nextNumber: REGISTRATION + 1,
  }
  const bytes = encodeDeviceRecord(record)
  let next = first
  const writer = async () => {
    while (next < first + count) {
      const index = next++
      await table.put(deviceKey(deviceOf(fleet.run, index)), bytes)
      if ((index - first) % 1000 === 999) onProgress(index - first + 1)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, writer))
}

/** What an app server sends to. */
export function registrationIdOf(system: LocalSystem, fleet: Fleet, index: number): string {
  const { project, application } = fleet
  const device = deviceOf(fleet.run, index)
  return encodeRegistrationId(system.keyring.macKey('registration'), {
    project,
    application,
    device,
    registration: REGISTRATION,
  })
}

/** Which worker has which device of a run, by number; holes where one has no live session. From `first` to `end`, into `found`. */
export async function locate(
  broker: Broker,
  fleet: Pick<Fleet, 'run'>,
  end: number,
  first = 0,
  found: Location[] = [],
): Promise<Location[]> {
  const sessions = new SessionTable(broker.table(Bucket.SESSIONS), systemClock)
  // One object for each worker, not for each device: there may be a million.
  const workers = new Map<string, Location>()
  let next = first
  const reader = async () => {
    while (next < end) {
      const index = next++
      const session = await sessions.lookup(deviceOf(fleet.run, index), { authoritative: false })
      if (!session?.live) continue
      const { instance, worker } = session
      const known = workers.get(`${instance}.${worker}`) ?? { instance, worker }
      workers.set(`${instance}.${worker}`, known)
      found[index] = known
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, reader))
  return found
}

export interface Location {
  instance: string
  worker: string
}
