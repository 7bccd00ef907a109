/** Operations on the whole service over the admin API: fleets, devices, credentials, AUDIT. */
import Type, { type Static } from 'typebox'
import { DEVICE_ID } from '../../../device-token.js'
import { TextLike } from '../../domain/schema.js'
import { AUDIT_PAGE_MAX } from '../../tenants/administration.js'
import { FleetProjects, type Named, NewCredential, NewEnrolmentKey, NewFleet } from '../../tenants/fields.js'
import { auditOutput, credentialOutput, enrolmentKeyOutput, fleetOutput, timeOutput } from '../../tenants/output.js'
import { type ActingCall, ADMIN, type AdminRoute, adminRoute } from './context.js'
import {
  AuditPage,
  CreatedCredential,
  CreatedEnrolmentKey,
  CreatedFleet,
  Credential,
  CutOffFleet,
  EnrolmentKey,
  EnrolmentKeyList,
  Fleet,
  RemovedCredential,
  ResetDevice,
  RevokedDevice,
} from './schemas.js'

const tag = 'service'
const errors = ['forbidden'] as const

const AUDIT_PAGE_DEFAULT = 50

const AuditQuery = Type.Object({
  project: Type.Optional(Type.String({ minLength: 1, description: 'Only entries about this project.' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: AUDIT_PAGE_MAX, default: AUDIT_PAGE_DEFAULT })),
  before: Type.Optional(
    TextLike(/^[1-9][0-9]{0,14}$/, 'the `next` of a page', { description: '`next` of the page before.' }),
  ),
})

const DeviceParams = Type.Object({
  device: TextLike(DEVICE_ID, 'a device id: dev_ and 20 of a-z 0-9', { description: 'The id of the device.' }),
})

const FleetParams = Type.Object({ fleet: Type.String({ description: 'The id of the fleet.' }) })
const KeyParams = Type.Object({
  fleet: Type.String({ description: 'The id of the fleet.' }),
  key: Type.String({ description: 'The id of the enrolment key.' }),
})

export const adminServiceRoutes: readonly AdminRoute[] = [
  adminRoute({
    method: 'GET',
    url: `${ADMIN}/fleets`,
    handler: listFleets,
    operation: {
      id: 'listFleets',
      summary: 'Every fleet',
      tag,
      answers: {
        200: { description: 'The fleets.', body: Type.Object({ fleets: Type.Array(Fleet) }, { $id: 'FleetList' }) },
      },
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/fleets`,
    handler: createFleet,
    operation: {
      id: 'createFleet',
      summary: 'Make a fleet and its enrolment key',
      tag,
      body: NewFleet,
      answers: { 201: { description: 'The fleet.', body: CreatedFleet } },
      errors,
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${ADMIN}/fleets/:fleet/keys`,
    handler: listEnrolmentKeys,
    operation: {
      id: 'listEnrolmentKeys',
      summary: 'The enrolment keys of a fleet',
      tag,
      params: FleetParams,
      answers: {
        200: { description: 'The keys with their uses; the keys themselves are not kept.', body: EnrolmentKeyList },
      },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/fleets/:fleet/keys`,
    handler: addEnrolmentKey,
    operation: {
      id: 'addEnrolmentKey',
      summary: 'Make another enrolment key',
      tag,
      params: FleetParams,
      body: NewEnrolmentKey,
      answers: { 201: { description: 'The key.', body: CreatedEnrolmentKey } },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/fleets/:fleet/keys/:key/retire`,
    handler: retireEnrolmentKey,
    operation: {
      id: 'retireEnrolmentKey',
      summary: 'Refuse an enrolment key from now on',
      tag,
      params: KeyParams,
      answers: { 200: { description: 'The key. Devices that enrolled with it stay.', body: EnrolmentKey } },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'PUT',
    url: `${ADMIN}/fleets/:fleet/projects`,
    handler: setFleetProjects,
    operation: {
      id: 'setFleetProjects',
      summary: 'Limit the projects for which devices of a fleet may register',
      tag,
      params: FleetParams,
      body: FleetProjects,
      answers: { 200: { description: 'The fleet. Registrations that exist stay.', body: Fleet } },
      errors: [...errors, 'not_found', 'unknown_project'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/fleets/:fleet/cut-off`,
    handler: cutOffFleet,
    operation: {
      id: 'cutOffFleet',
      summary: 'End all identities of a fleet',
      tag,
      params: FleetParams,
      answers: {
        200: {
          description: 'Tokens issued before `tokensFrom` are void: the devices have to enrol anew.',
          body: CutOffFleet,
        },
      },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/devices/:device/reset`,
    handler: resetDevice,
    operation: {
      id: 'resetDevice',
      summary: 'Forget the connection numbers of a device',
      tag,
      params: DeviceParams,
      answers: { 200: { description: 'Done.', body: ResetDevice } },
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/devices/:device/revoke`,
    handler: revokeDevice,
    operation: {
      id: 'revokeDevice',
      summary: 'Cut a device off for good',
      tag,
      params: DeviceParams,
      answers: { 200: { description: 'Done.', body: RevokedDevice } },
      errors,
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${ADMIN}/credentials`,
    handler: listCredentials,
    operation: {
      id: 'listCredentials',
      summary: 'Every credential',
      tag,
      answers: {
        200: {
          description: 'The credentials, without their secrets.',
          body: Type.Object({ credentials: Type.Array(Credential) }, { $id: 'CredentialList' }),
        },
      },
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${ADMIN}/credentials`,
    handler: createCredential,
    operation: {
      id: 'createCredential',
      summary: 'Let a person or a tool use this API',
      tag,
      body: NewCredential,
      answers: { 201: { description: 'The credential.', body: CreatedCredential } },
      errors,
    },
  }),
  adminRoute({
    method: 'DELETE',
    url: `${ADMIN}/credentials/:credential`,
    handler: removeCredential,
    operation: {
      id: 'removeCredential',
      summary: 'Refuse a credential from now on',
      tag,
      params: Type.Object({ credential: Type.String({ description: 'The id of the credential.' }) }),
      answers: { 200: { description: 'Done.', body: RemovedCredential } },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${ADMIN}/audit`,
    handler: showAudit,
    operation: {
      id: 'showAudit',
      summary: 'Changes and their authors, newest first',
      tag,
      query: AuditQuery,
      answers: { 200: { description: 'A page. A page may be short and have a next one.', body: AuditPage } },
      errors,
    },
  }),
]

async function listFleets({ context, actor }: ActingCall): Promise<object> {
  return { fleets: (await context.administration.fleets(actor)).map(fleetOutput) }
}

async function createFleet({ context, actor, body, reply }: ActingCall & { body: Named }): Promise<object> {
  const { fleet, enrolmentKey } = await context.administration.createFleet(actor, body)
  reply.code(201).header('cache-control', 'no-store')
  return { ...fleetOutput(fleet), enrolmentKey }
}

type FleetCall = ActingCall & { params: { fleet: string } }

async function setFleetProjects({
  context,
  actor,
  params,
  body,
}: FleetCall & { body: FleetProjects }): Promise<object> {
  const projects = body.projects === '*' ? null : body.projects
  return fleetOutput(await context.administration.setFleetProjects(actor, params.fleet, projects))
}

async function listEnrolmentKeys({ context, actor, params }: FleetCall): Promise<object> {
  const keys = await context.administration.enrolmentKeys(actor, params.fleet)
  return { keys: keys.map(enrolmentKeyOutput) }
}

async function addEnrolmentKey({
  context,
  actor,
  params,
  body,
  reply,
}: FleetCall & { body: NewEnrolmentKey }): Promise<object> {
  const { key, enrolmentKey } = await context.administration.addEnrolmentKey(actor, params.fleet, body)
  reply.code(201).header('cache-control', 'no-store')
  return { ...enrolmentKeyOutput(key), enrolmentKey }
}

async function retireEnrolmentKey({
  context,
  actor,
  params,
}: ActingCall & { params: { fleet: string; key: string } }): Promise<object> {
  return enrolmentKeyOutput(await context.administration.retireEnrolmentKey(actor, params.fleet, params.key))
}

async function cutOffFleet({ context, actor, params }: FleetCall): Promise<object> {
  const tokensFrom = timeOutput(await context.administration.cutOffFleet(actor, params.fleet))
  return { fleetId: params.fleet, tokensFrom }
}

async function resetDevice({ context, actor, params }: ActingCall & { params: { device: string } }): Promise<object> {
  await context.administration.resetDevice(actor, params.device)
  return { deviceId: params.device, reset: true }
}

async function revokeDevice({ context, actor, params }: ActingCall & { params: { device: string } }): Promise<object> {
  await context.administration.revokeDevice(actor, params.device)
  return { deviceId: params.device, revoked: true }
}

async function listCredentials({ context, actor }: ActingCall): Promise<object> {
  return { credentials: (await context.administration.allCredentials(actor)).map(credentialOutput) }
}

async function createCredential({
  context,
  actor,
  body,
  reply,
}: ActingCall & { body: NewCredential }): Promise<object> {
  const { credential, secret } = await context.administration.createCredential(actor, body)
  reply.code(201).header('cache-control', 'no-store')
  return { ...credentialOutput(credential), secret }
}

async function removeCredential({
  context,
  actor,
  params,
}: ActingCall & { params: { credential: string } }): Promise<object> {
  await context.administration.removeCredential(actor, params.credential)
  return { credentialId: params.credential, removed: true }
}

async function showAudit({
  context,
  actor,
  query,
}: ActingCall & { query: Static<typeof AuditQuery> }): Promise<object> {
  const { project, limit = AUDIT_PAGE_DEFAULT, before } = query
  const page = await context.administration.auditPage(actor, {
    limit,
    ...(project !== undefined && { project }),
    ...(before !== undefined && { before: Number(before) }),
  })
  const next = page.next === null ? {} : { next: String(page.next) }
  return { entries: page.entries.map(auditOutput), ...next }
}
