/**
 * Makes many registered devices without enrolment and REGISTER, which would take too long: it writes their records into
 * the table, and makes tokens and registrationIds with the keys of the system.
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
  /** Part of the ids of its devices: 8 of [a-z0-9]. */
  run: string
  project: string
  application: string
}

/** Number of the one registration of each device. */
export const REGISTRATION = 1
const TOKEN_SECONDS = 86_400
const IN_FLIGHT = 512

/** A name for devices that no earlier run of this system used. */
export function newRun(): string {
  return Math.floor(Math.random() * 36 ** 8)
    .toString(36)
    .padStart(8, '0')
}

/** Creates a project and an application for the devices of a run. */
export async function createTenant(broker: Broker, run = newRun(), id = `bench-${run}`): Promise<Fleet> {
  const tenants = openTenants(broker, systemClock)
  const { project } = await createProject(tenants, { id, alg: 'ES256' })
  const application = await createApplication(tenants, project.id)
  return { run, project: project.id, application: application.id }
}

/** Makes an access token for the fleet's project. */
export async function accessToken(system: LocalSystem, broker: Broker, fleet: Fleet): Promise<string> {
  const auth = { ...system.config.auth, accessTokenSeconds: TOKEN_SECONDS }
  return (await mintToken(openTenants(broker, systemClock), system.keyring, auth, fleet.project)).token
}

/** The configuration with which generators act as these devices. */
export function dialectOf(system: LocalSystem, fleet: Pick<Fleet, 'run'>): DialectConfig {
  const signing = { ...system.keyring.signingKey('deviceToken'), issuer: system.config.auth.issuer }
  return { kind: 'borealis', run: fleet.run, signing }
}

/** Makes the device token that enrolment would give. */
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
  /** Topics to which each device is subscribed. */
  topics?: readonly string[]
  onProgress?(done: number): void
}

/** Registers each device for the fleet's application. `broker` needs the rights of a core or an admin. */
export async function registerDevices(broker: Broker, fleet: Fleet, options: RegisterOptions): Promise<void> {
  const { count, first = 0, topics = [], onProgress = () => undefined } = options
  const table = broker.table(Bucket.DEVICES)
  const { lastSequence: since } = await broker.log(BROADCAST_STREAM).state()
  const { project, application } = fleet
  const added = { since, addedVersion: 1 }
  const record: DeviceRecord = {
    registrations: [
      {
        number: REGISTRATION,
        project,
        application,
        user: '',
        channel: 'native' as const,
        createdAtMs: Date.now(),
        ...added,
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

/** The registrationId to which an app server sends. */
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

/**
 * Looks up the workers of the devices `first` to `end` - 1, and adds them to `found` by device number. A device without a
 * live session leaves a hole.
 */
export async function locate(
  broker: Broker,
  fleet: Pick<Fleet, 'run'>,
  end: number,
  first = 0,
  found: Location[] = [],
): Promise<Location[]> {
  const sessions = new SessionTable(broker.table(Bucket.SESSIONS), systemClock)
  // One object for each worker instead of each device, because there may be a million devices.
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
