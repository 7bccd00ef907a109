/** What is about the whole service, over the admin API: fleets, devices, credentials, AUDIT. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import { AUDIT_PAGE_MAX } from '../../tenants/administration.js'
import { ROLES } from '../../tenants/auth/roles.js'
import { auditOutput, credentialOutput, fleetOutput } from '../../tenants/output.js'
import { flow } from '../flow.js'
import { paramOf } from '../public/context.js'
import { queryNumber, queryText } from '../query.js'
import {
  type ActingCall,
  type AdminRoute,
  authenticateActor,
  type BodyCall,
  optionalText,
  present,
  readFields,
} from './context.js'
import { ADMIN } from './project-routes.js'
import { AuditPage, Credential, Fleet, Named } from './schemas.js'

const looks = (run: (call: ActingCall) => Promise<object>) => flow(authenticateActor, run)
const changes = (run: (call: BodyCall) => Promise<object>) => flow(authenticateActor, readFields, run)

const Secret = Type.String({ description: 'Shown once, kept nowhere.' })

export const adminServiceRoutes: readonly AdminRoute[] = [
  {
    ...{ method: 'GET', url: `${ADMIN}/fleets`, handler: looks(listFleets) },
    operation: {
      ...{ id: 'listFleets', summary: 'Every fleet', tag: 'service', errors: ['forbidden'] },
      answers: { 200: { description: 'The fleets.', body: Type.Object({ fleets: Type.Array(Fleet) }) } },
    },
  },
  {
    ...{ method: 'POST', url: `${ADMIN}/fleets`, handler: changes(createFleet) },
    operation: {
      ...{ id: 'createFleet', summary: 'Make a fleet and its enrolment key', tag: 'service', errors: ['forbidden'] },
      body: Named,
      answers: {
        201: { description: 'The fleet.', body: Type.Object({ ...Fleet.properties, enrolmentKey: Secret }) },
      },
    },
  },
  {
    ...{ method: 'POST', url: `${ADMIN}/devices/:device/revoke`, handler: changes(revokeDevice) },
    operation: {
      ...{ id: 'revokeDevice', summary: 'Cut a device off for good', tag: 'service', errors: ['forbidden'] },
      params: Type.Object({ device: Type.String() }),
      answers: {
        200: { description: 'Done.', body: Type.Object({ deviceId: Type.String(), revoked: Type.Literal(true) }) },
      },
    },
  },
  {
    ...{ method: 'GET', url: `${ADMIN}/credentials`, handler: looks(listCredentials) },
    operation: {
      ...{ id: 'listCredentials', summary: 'Every credential', tag: 'service', errors: ['forbidden'] },
      answers: { 200: { description: 'Without secrets.', body: Type.Object({ credentials: Type.Array(Credential) }) } },
    },
  },
  {
    ...{ method: 'POST', url: `${ADMIN}/credentials`, handler: changes(createCredential) },
    operation: {
      ...{ id: 'createCredential', summary: 'Let somebody use this API', tag: 'service', errors: ['forbidden'] },
      body: Type.Object({
        name: Type.String({ maxLength: 128 }),
        role: Type.Enum([...ROLES]),
        projects: Type.Optional(Type.Array(Type.String(), { description: 'Absent: the whole service.' })),
      }),
      answers: {
        201: { description: 'The credential.', body: Type.Object({ ...Credential.properties, secret: Secret }) },
      },
    },
  },
  {
    ...{ method: 'DELETE', url: `${ADMIN}/credentials/:credential`, handler: looks(removeCredential) },
    operation: {
      ...{ id: 'removeCredential', summary: 'Refuse a credential', tag: 'service', errors: ['forbidden', 'not_found'] },
      params: Type.Object({ credential: Type.String() }),
      answers: {
        200: { description: 'Done.', body: Type.Object({ credentialId: Type.String(), removed: Type.Literal(true) }) },
      },
    },
  },
  {
    ...{ method: 'GET', url: `${ADMIN}/audit`, handler: looks(showAudit) },
    operation: {
      ...{ id: 'showAudit', summary: 'Who changed what, newest first', tag: 'service', errors: ['forbidden'] },
      query: Type.Object({
        project: Type.Optional(Type.String({ description: 'Only what is about this one.' })),
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: AUDIT_PAGE_MAX, default: 50 })),
        before: Type.Optional(Type.String({ description: '`next` of the page before.' })),
      }),
      answers: { 200: { description: 'A page; it may be short and have a next one.', body: AuditPage } },
    },
  },
]

async function listFleets({ context, actor }: ActingCall): Promise<object> {
  return { fleets: (await context.administration.fleets(actor)).map(fleetOutput) }
}

async function createFleet(call: BodyCall): Promise<object> {
  const options = present({ name: optionalText(call, 'name') })
  const { fleet, enrolmentKey } = await call.context.administration.createFleet(call.actor, options)
  call.reply.code(201).header('cache-control', 'no-store')
  return { ...fleetOutput(fleet), enrolmentKey }
}

async function revokeDevice(call: BodyCall): Promise<object> {
  const deviceId = paramOf(call, 'device')
  await call.context.administration.revokeDevice(call.actor, deviceId)
  return { deviceId, revoked: true }
}

async function listCredentials({ context, actor }: ActingCall): Promise<object> {
  return { credentials: (await context.administration.allCredentials(actor)).map(credentialOutput) }
}

async function createCredential(call: BodyCall): Promise<object> {
  const { projects } = call.fields
  const isList = Array.isArray(projects) && projects.every((one): one is string => typeof one === 'string')
  if (projects !== undefined && !isList) {
    throw new CodedError('invalid_request', 'projects must be a list of project ids', { field: 'projects' })
  }
  const { credential, secret } = await call.context.administration.createCredential(call.actor, {
    name: optionalText(call, 'name') ?? '',
    role: optionalText(call, 'role') ?? '',
    projects: isList ? projects : undefined,
  })
  call.reply.code(201).header('cache-control', 'no-store')
  return { ...credentialOutput(credential), secret }
}

async function removeCredential(call: ActingCall): Promise<object> {
  const credentialId = paramOf(call, 'credential')
  await call.context.administration.removeCredential(call.actor, credentialId)
  return { credentialId, removed: true }
}

async function showAudit(call: ActingCall): Promise<object> {
  const project = queryText(call, 'project', 64)
  const limit = queryNumber(call, 'limit', { minimum: 1, maximum: AUDIT_PAGE_MAX, absent: 50 })
  const before = queryNumber(call, 'before', { minimum: 1, maximum: Number.MAX_SAFE_INTEGER, absent: 0 })
  const page = await call.context.administration.auditPage(call.actor, {
    ...{ limit, ...(project === '' ? {} : { project }), ...(before === 0 ? {} : { before }) },
  })
  const next = page.next === null ? {} : { next: String(page.next) }
  return { entries: page.entries.map(auditOutput), ...next }
}
