/**
 * Changes of projects, applications, fleets, devices and registrations. Administration calls these functions for people;
 * `npm start`, tests and bench call them directly. Every core sees a change through its watches.
 */
import { CodedError } from '../../../protocol/errors.js'
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { DEVICE_ID } from '../../device-token.js'
import type { Keyring } from '../../keyring.js'
import type { Broker, Table } from '../../nats/broker.js'
import { DeviceStore } from '../../store/devices.js'
import { RegistrationIndex } from '../../store/registrations.js'
import { revokeDevice as markDevice, cutOffFleet as markFleet } from '../../store/revoked.js'
import { SessionTable } from '../../store/sessions.js'
import {
  type ApplicationRecord,
  type EnrolmentKey,
  enrolmentKeysOf,
  FLEET_ID,
  type FleetRecord,
  newEnrolmentKeyRecord,
  PROJECT_ID,
  type ProjectRecord,
  RecordTable,
  type ServiceKey,
  withEnrolmentKeys,
} from '../../store/tenants.js'
import { DeviceNotices } from '../cluster/device-notices.js'
import { newEnrolmentKey } from './auth/enrolment.js'
import { generateServiceKey, type PrivateServiceKey } from './auth/service-keys.js'
import type { AuthSettings } from './auth/settings.js'
import { mintAccessToken, Scope } from './auth/tokens.js'
import { tellEnded } from './ended-registrations.js'
import { checkNamed, checkNewLimits, checkNewProject, type Named, type NewLimits, type NewProject } from './fields.js'
import { randomId } from './ids.js'
import { endRegistration, type RegistrationStores } from './revocation.js'

/** The tables that administration writes. */
export interface Tenants {
  projects: RecordTable<ProjectRecord>
  applications: RecordTable<ApplicationRecord>
  fleets: RecordTable<FleetRecord>
  devices: DeviceStore
  sessions: SessionTable
  revoked: Table
  index: RegistrationIndex
  ended: RegistrationStores['ended']
  notices: DeviceNotices
  clock: Clock
}

export function openTenants(broker: Broker, clock: Clock): Tenants {
  return {
    projects: new RecordTable(broker.table(Bucket.PROJECTS), 'project'),
    applications: new RecordTable(broker.table(Bucket.APPLICATIONS), 'application'),
    fleets: new RecordTable(broker.table(Bucket.FLEETS), 'fleet'),
    devices: new DeviceStore(broker.table(Bucket.DEVICES)),
    sessions: new SessionTable(broker.table(Bucket.SESSIONS), clock),
    revoked: broker.table(Bucket.REVOKED),
    index: new RegistrationIndex(broker),
    ended: { add: (device, registration) => tellEnded(broker.bus, device, registration) },
    notices: new DeviceNotices(broker, clock),
    clock,
  }
}

const KEYS_MAX = 8
const ENROLMENT_KEYS_MAX = 50
const DAY_MS = 86_400_000
/** Where nobody says how long tokens live: the revocation stays. */
const TOKEN_DAYS_MAX = 36_500

export const newProjectId = () => randomId('', 20)

/** The private key of its service account is in the answer and nowhere else. Throws CodedError `invalid_request`, `conflict`. */
export async function createProject(
  tenants: Tenants,
  wanted: NewProject = {},
): Promise<{ project: ProjectRecord; serviceKey: PrivateServiceKey }> {
  const { id = newProjectId(), name = id, alg = 'RS256' } = checkNewProject(wanted)
  const nowMs = tenants.clock.now()
  const key = await generateServiceKey(alg, nowMs)
  const project: ProjectRecord = {
    v: 1,
    id,
    name,
    isActive: true,
    serviceAccount: { clientId: `${randomId('client_', 20)}.${id}`, keys: [key.stored] },
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
  }
  if (!(await tenants.projects.create(project))) {
    throw new CodedError('conflict', `a project ${id} exists already`, { field: 'id' })
  }
  return { project, serviceKey: key.private }
}

export async function getProject(tenants: Tenants, id: string): Promise<ProjectRecord> {
  const project = PROJECT_ID.test(id) ? await tenants.projects.get(id) : null
  if (!project) throw new CodedError('unknown_project')
  return project
}

export function setProjectActive(tenants: Tenants, id: string, isActive: boolean): Promise<ProjectRecord> {
  return changeProject(tenants, id, (project) => ({ ...project, isActive }))
}

/** null stands for the default of the service. Throws CodedError `invalid_request`. */
export async function setLimits(tenants: Tenants, id: string, wanted: NewLimits): Promise<ProjectRecord> {
  const limits = checkNewLimits(wanted)
  return changeProject(tenants, id, (project) => ({ ...project, limits: { ...project.limits, ...limits } }))
}

/** Adds a key beside the present ones, so that keys can be changed without a gap. */
export async function addServiceKey(
  tenants: Tenants,
  id: string,
  alg: ServiceKey['alg'] = 'RS256',
): Promise<PrivateServiceKey> {
  const key = await generateServiceKey(alg, tenants.clock.now())
  await storeServiceKey(tenants, id, key.stored)
  return key.private
}

/** Throws CodedError `conflict` where the project has as many keys as it may have. */
export function storeServiceKey(tenants: Tenants, id: string, key: ServiceKey): Promise<ProjectRecord> {
  return changeProject(tenants, id, (project) => {
    const { keys } = project.serviceAccount
    if (keys.length >= KEYS_MAX) throw new CodedError('conflict', `a project has at most ${KEYS_MAX} keys`)
    return withKeys(project, [...keys, key])
  })
}

/** Everything that the key signed is refused from now on, and so is every access token that was issued for it. */
export function removeServiceKey(tenants: Tenants, id: string, keyId: string): Promise<ProjectRecord> {
  return changeProject(tenants, id, (project) => {
    const keys = project.serviceAccount.keys.filter((key) => key.kid !== keyId)
    if (keys.length === project.serviceAccount.keys.length) {
      throw new CodedError('not_found', `project ${id} has no key ${keyId}`)
    }
    if (keys.length === 0)
      throw new CodedError('conflict', 'this is the last key of the project: add another one first')
    return withKeys(project, keys)
  })
}

export async function createApplication(
  tenants: Tenants,
  project: string,
  { id = randomId('app_', 20), ...wanted }: Named & { id?: string } = {},
): Promise<ApplicationRecord> {
  const { name = id } = checkNamed(wanted)
  await getProject(tenants, project)
  const application: ApplicationRecord = {
    v: 1,
    id,
    project,
    name,
    createdAtMs: tenants.clock.now(),
  }
  if (!(await tenants.applications.create(application))) {
    throw new CodedError('conflict', `an application ${id} exists already`)
  }
  return application
}

/** The enrolment key is in the answer and nowhere else. */
export async function createFleet(
  tenants: Tenants,
  wanted: Named = {},
): Promise<{ fleet: FleetRecord; enrolmentKey: string }> {
  const id = randomId('fleet_', 12)
  const { name = id } = checkNamed(wanted)
  const { enrolmentKey, hash } = newEnrolmentKey(id)
  const fleet: FleetRecord = {
    v: 1,
    id,
    name,
    keyHashes: [hash],
    keys: [newEnrolmentKeyRecord(hash, tenants.clock.now())],
    createdAtMs: tenants.clock.now(),
  }
  if (!(await tenants.fleets.create(fleet))) throw new CodedError('internal', `fleet id ${id} was taken`)
  return { fleet, enrolmentKey }
}

/** Makes an access token without the token endpoint. Throws CodedError `unknown_project`. */
export async function mintToken(
  tenants: Tenants,
  keyring: Keyring,
  auth: Pick<AuthSettings, 'issuer' | 'audience' | 'accessTokenSeconds'>,
  id: string,
  scopes: readonly string[] = Object.values(Scope),
): Promise<{ token: string; expiresAtMs: number }> {
  const project = await getProject(tenants, id)
  return mintAccessToken(keyring, {
    issuer: auth.issuer,
    audience: auth.audience,
    project: id,
    clientId: project.serviceAccount.clientId,
    scopes,
    tokenId: randomId('', 20),
    nowMs: tenants.clock.now(),
    lifetimeSeconds: auth.accessTokenSeconds,
  })
}

/** Limits of a new enrolment key; absent: none. */
export interface NewEnrolmentKey {
  usesMax?: number
  untilMs?: number
}

/** The enrolment key is in the answer and nowhere else. Throws CodedError `not_found` or `invalid_request`. */
export async function addEnrolmentKey(
  tenants: Tenants,
  fleetId: string,
  limits: NewEnrolmentKey = {},
): Promise<{ fleet: FleetRecord; key: EnrolmentKey; enrolmentKey: string }> {
  const { usesMax, untilMs } = limits
  if (usesMax !== undefined && !(Number.isSafeInteger(usesMax) && usesMax >= 1)) {
    throw new CodedError('invalid_request', 'uses must be a whole number above 0', { field: 'uses' })
  }
  if (untilMs !== undefined && !(untilMs > tenants.clock.now())) {
    throw new CodedError('invalid_request', 'until must be a time to come', { field: 'until' })
  }
  const { enrolmentKey, hash } = newEnrolmentKey(fleetId)
  const key = newEnrolmentKeyRecord(hash, tenants.clock.now(), limits)
  const fleet = await changeFleet(tenants, fleetId, (keys) => {
    if (keys.filter(({ retiredAtMs }) => retiredAtMs === null).length >= ENROLMENT_KEYS_MAX) {
      throw new CodedError(
        'invalid_request',
        `a fleet has at most ${ENROLMENT_KEYS_MAX} enrolment keys: retire one first`,
      )
    }
    // Of retired ones the newest are kept, for their counts.
    const retired = keys.filter(({ retiredAtMs }) => retiredAtMs !== null).slice(-ENROLMENT_KEYS_MAX)
    return [...keys.filter((one) => one.retiredAtMs === null || retired.includes(one)), key]
  })
  return { fleet, key, enrolmentKey }
}

/** The key is good for nothing from now on; devices that enrolled with it stay. Throws CodedError `not_found`. */
export async function retireEnrolmentKey(tenants: Tenants, fleetId: string, keyId: string): Promise<EnrolmentKey> {
  const nowMs = tenants.clock.now()
  const fleet = await changeFleet(tenants, fleetId, (keys) => {
    if (!keys.some(({ id }) => id === keyId)) throw new CodedError('not_found', `the fleet has no key ${keyId}`)
    return keys.map((key) => (key.id === keyId ? { ...key, retiredAtMs: key.retiredAtMs ?? nowMs } : key))
  })
  const key = enrolmentKeysOf(fleet).find(({ id }) => id === keyId)
  if (!key) throw new CodedError('internal', 'a key that was retired is not there')
  return key
}

/** Throws CodedError `not_found`. */
export async function getFleet(tenants: Tenants, id: string): Promise<FleetRecord> {
  const fleet = FLEET_ID.test(id) ? await tenants.fleets.get(id, { authoritative: true }) : null
  if (!fleet) throw new CodedError('not_found', 'there is no such fleet')
  return fleet
}

/**
 * Every token that the fleet issued before now is void, with its tickets and sessions: devices have to enrol anew. Throws
 * CodedError `not_found`. Resolves with the time from which on tokens count.
 */
export async function cutOffFleet(tenants: Tenants, id: string): Promise<number> {
  await getFleet(tenants, id)
  // Tokens count in seconds: of those of this second, those before now are void too.
  const fromMs = Math.ceil(tenants.clock.now() / 1_000) * 1_000
  await markFleet(tenants.revoked, id, fromMs)
  return fromMs
}

/**
 * The device is cut off and may not come back; its registrations are refused to senders. `tokenDays`: how long a token of it
 * may live and be renewed, after which the entry goes.
 */
export async function revokeDevice(tenants: Tenants, device: string, tokenDays = TOKEN_DAYS_MAX): Promise<void> {
  requireDeviceId(device)
  const nowMs = tenants.clock.now()
  await markDevice(tenants.revoked, device, nowMs, nowMs + tokenDays * DAY_MS)
}

/** Forgets which connection numbers and tokens the device has used, and ends its session: it comes back with what it has. */
export async function resetDevice(tenants: Tenants, device: string): Promise<void> {
  requireDeviceId(device)
  const session = await tenants.sessions.reset(device)
  if (session?.live) tenants.notices.close(device, session)
}

function requireDeviceId(device: string): void {
  if (DEVICE_ID.test(device)) return
  throw new CodedError('invalid_request', 'a device id is dev_ and 20 of a-z 0-9', { field: 'device' })
}

async function changeFleet(
  tenants: Tenants,
  id: string,
  change: (keys: EnrolmentKey[]) => EnrolmentKey[],
): Promise<FleetRecord> {
  const known = FLEET_ID.test(id)
  const changed = known
    ? await tenants.fleets.update(id, (fleet) => withEnrolmentKeys(fleet, change(enrolmentKeysOf(fleet))))
    : null
  if (!changed) throw new CodedError('not_found', 'there is no such fleet')
  return changed
}

/**
 * Ends a registration: senders get `revoked_registration`, and a live session leaves its groups. The app gets another
 * registrationId when it registers again.
 */
export async function revokeRegistration(tenants: Tenants, device: string, registration: number): Promise<void> {
  requireDeviceId(device)
  await endRegistration(tenants, { device, registration })
  await tenants.notices.changed(device)
}

async function changeProject(
  tenants: Tenants,
  id: string,
  change: (project: ProjectRecord) => ProjectRecord,
): Promise<ProjectRecord> {
  const nowMs = tenants.clock.now()
  const known = PROJECT_ID.test(id)
  const changed = known ? await tenants.projects.update(id, (p) => ({ ...change(p), updatedAtMs: nowMs })) : null
  if (!changed) throw new CodedError('unknown_project')
  return changed
}

function withKeys(project: ProjectRecord, keys: ServiceKey[]): ProjectRecord {
  return { ...project, serviceAccount: { ...project.serviceAccount, keys } }
}
