/**
 * Changes of projects, applications, fleets, devices and registrations. Administration calls these functions for operators;
 * `npm start`, tests and bench call them directly. Each core learns of a change through its watches.
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
  APPLICATION_ID,
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
import { publishEnded } from './ended-registrations.js'
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
    ended: { add: (device, registration) => publishEnded(broker.bus, device, registration) },
    notices: new DeviceNotices(broker, clock),
    clock,
  }
}

const KEYS_MAX = 8
const ENROLMENT_KEYS_MAX = 50
const DAY_MS = 86_400_000
/** Used if the lifetime of tokens is unknown: the revocation stays for 100 years. */
const TOKEN_DAYS_MAX = 36_500

export const newProjectId = () => randomId('', 20)

/** The private key of the service account is only in the result. Rejects with CodedError `invalid_request` or `conflict`. */
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

/** A limit of null is the default of the service. Rejects with CodedError `invalid_request` or `unknown_project`. */
export async function setLimits(tenants: Tenants, id: string, wanted: NewLimits): Promise<ProjectRecord> {
  const limits = checkNewLimits(wanted)
  return changeProject(tenants, id, (project) => ({ ...project, limits: { ...project.limits, ...limits } }))
}

/** Adds a key and keeps the present ones, so that an app server can change its key without an interruption. */
export async function addServiceKey(
  tenants: Tenants,
  id: string,
  alg: ServiceKey['alg'] = 'RS256',
): Promise<PrivateServiceKey> {
  const key = await generateServiceKey(alg, tenants.clock.now())
  await storeServiceKey(tenants, id, key.stored)
  return key.private
}

/** Rejects with CodedError `conflict` if the project has the maximum number of keys. */
export function storeServiceKey(tenants: Tenants, id: string, key: ServiceKey): Promise<ProjectRecord> {
  return changeProject(tenants, id, (project) => {
    const { keys } = project.serviceAccount
    if (keys.length >= KEYS_MAX) throw new CodedError('conflict', `a project has at most ${KEYS_MAX} keys`)
    return withKeys(project, [...keys, key])
  })
}

/** Everything that the key has signed is refused from now on, and so are the access tokens that were issued for it. */
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

/** The enrolment key is only in the result. */
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

/** Issues an access token without the token endpoint. Rejects with CodedError `unknown_project`. */
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

/** An absent field means that the key has no such limit. */
export interface EnrolmentKeyLimits {
  usesMax?: number
  untilMs?: number
}

/** The enrolment key is only in the result. Rejects with CodedError `not_found` or `invalid_request`. */
export async function addEnrolmentKey(
  tenants: Tenants,
  fleetId: string,
  limits: EnrolmentKeyLimits = {},
): Promise<{ fleet: FleetRecord; key: EnrolmentKey; enrolmentKey: string }> {
  const { usesMax, untilMs } = limits
  if (usesMax !== undefined && !(Number.isSafeInteger(usesMax) && usesMax >= 1)) {
    throw new CodedError('invalid_request', 'uses must be a whole number above 0', { field: 'uses' })
  }
  if (untilMs !== undefined && !(untilMs > tenants.clock.now())) {
    throw new CodedError('invalid_request', 'until must be in the future', { field: 'until' })
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
    // The newest retired keys stay in the record, for their counts.
    const retired = keys.filter(({ retiredAtMs }) => retiredAtMs !== null).slice(-ENROLMENT_KEYS_MAX)
    return [...keys.filter((one) => one.retiredAtMs === null || retired.includes(one)), key]
  })
  return { fleet, key, enrolmentKey }
}

/** The key enrols no further devices. Devices that have enrolled with it keep their identity. Rejects with `not_found`. */
export async function retireEnrolmentKey(tenants: Tenants, fleetId: string, keyId: string): Promise<EnrolmentKey> {
  const nowMs = tenants.clock.now()
  const fleet = await changeFleet(tenants, fleetId, (keys) => {
    if (!keys.some(({ id }) => id === keyId)) throw new CodedError('not_found', `the fleet has no key ${keyId}`)
    return keys.map((key) => (key.id === keyId ? { ...key, retiredAtMs: key.retiredAtMs ?? nowMs } : key))
  })
  const key = enrolmentKeysOf(fleet).find(({ id }) => id === keyId)
  if (!key) throw new CodedError('internal', 'the retired key is missing from the record after its write')
  return key
}

/** Rejects with CodedError `not_found`. */
export async function getFleet(tenants: Tenants, id: string): Promise<FleetRecord> {
  const fleet = FLEET_ID.test(id) ? await tenants.fleets.get(id, { authoritative: true }) : null
  if (!fleet) throw new CodedError('not_found', 'there is no such fleet')
  return fleet
}

/**
 * Voids all tokens of the fleet that were issued before now, with their tickets and sessions. The devices have to enrol
 * again. Resolves with the time of the cut-off, Unix milliseconds. Rejects with CodedError `not_found`.
 */
export async function cutOffFleet(tenants: Tenants, id: string): Promise<number> {
  await getFleet(tenants, id)
  // `iat` of tokens is in seconds, so the cut-off is rounded up: it also voids tokens of the current second.
  const fromMs = Math.ceil(tenants.clock.now() / 1_000) * 1_000
  await markFleet(tenants.revoked, id, fromMs)
  return fromMs
}

/**
 * Closes the device's session, refuses its connections, and refuses messages to its registrations.
 * @param tokenDays time for which its tokens could be used or renewed; the entry in REVOKED is removed after it.
 */
export async function revokeDevice(tenants: Tenants, device: string, tokenDays = TOKEN_DAYS_MAX): Promise<void> {
  requireDeviceId(device)
  const nowMs = tenants.clock.now()
  await markDevice(tenants.revoked, device, nowMs, nowMs + tokenDays * DAY_MS)
}

/** Ends the device's session and forgets its connection number and token time, so that the device can connect again. */
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
  const changed = FLEET_ID.test(id)
    ? await tenants.fleets.update(id, (fleet) => withEnrolmentKeys(fleet, change(enrolmentKeysOf(fleet))))
    : null
  if (!changed) throw new CodedError('not_found', 'there is no such fleet')
  return changed
}

/**
 * Limits the projects for whose applications devices of the fleet may register; null: no limit. Registrations that exist
 * stay. Rejects with CodedError `not_found` or `unknown_project`.
 */
export async function setFleetProjects(tenants: Tenants, id: string, projects: string[] | null): Promise<FleetRecord> {
  for (const project of projects ?? []) await getProject(tenants, project)
  const changed = FLEET_ID.test(id)
    ? await tenants.fleets.update(id, ({ projects: _before, ...fleet }) => ({
        ...fleet,
        ...(projects && { projects }),
      }))
    : null
  if (!changed) throw new CodedError('not_found', 'there is no such fleet')
  return changed
}

/**
 * Whether the application registers with a user token only. Registrations that exist stay. Rejects with CodedError
 * `not_found` if the project has no such application.
 */
export async function setNeedsUser(
  tenants: Tenants,
  project: string,
  id: string,
  needsUser: boolean,
): Promise<ApplicationRecord> {
  const known = APPLICATION_ID.test(id) ? await tenants.applications.get(id, { authoritative: true }) : null
  const changed =
    known?.project === project ? await tenants.applications.update(id, (record) => ({ ...record, needsUser })) : null
  if (!changed) throw new CodedError('not_found', 'the project has no such application')
  return changed
}

/**
 * Ends a registration. Senders get `revoked_registration`, and a live session leaves the groups of the registration. The app
 * gets a new registrationId when it registers again.
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
  const changed = PROJECT_ID.test(id)
    ? await tenants.projects.update(id, (p) => ({ ...change(p), updatedAtMs: nowMs }))
    : null
  if (!changed) throw new CodedError('unknown_project')
  return changed
}

function withKeys(project: ProjectRecord, keys: ServiceKey[]): ProjectRecord {
  return { ...project, serviceAccount: { ...project.serviceAccount, keys } }
}
