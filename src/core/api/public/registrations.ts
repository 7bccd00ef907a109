/** Registrations of a project over HTTP: listed by application or user, and ended. */
import Type from 'typebox'
import { CHANNELS } from '../../../store/devices.js'
import { APPLICATION_ID, USER_CHARACTERS_MAX } from '../../../store/tenants.js'
import type { ListedRegistration } from '../../devices/registrations.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { queryNumber, queryText } from '../query.js'
import { PROJECT_URL, ProjectParams } from '../route.js'
import type { ApiRoute } from './context.js'
import { type AuthenticatedCall, authenticate, paramOf, requireActive } from './context.js'

const PAGE_MAX = 100

const listRegistrations = flow(authenticate(Scope.PROJECT_READ), requireActive, list)
const revokeRegistration = flow(authenticate(Scope.MESSAGE_UPDATE), requireActive, revoke)

export const Registration = Type.Object({
  registrationId: Type.String({ description: 'What messages are sent to.' }),
  application: Type.String(),
  deviceId: Type.String(),
  user: Type.String({ description: 'Empty: none.' }),
  channel: Type.Enum([...CHANNELS], { description: 'How it is reached.' }),
  createdAt: Type.String({ format: 'date-time' }),
})

export const RegistrationPage = Type.Object({
  registrations: Type.Array(Registration),
  next: Type.Optional(Type.String({ description: '`cursor` of the next page; absent: there is none.' })),
})

export const RegistrationQuery = Type.Object({
  application: Type.Optional(Type.String({ description: 'Only those of this application.' })),
  user: Type.Optional(Type.String({ maxLength: USER_CHARACTERS_MAX, description: 'Only those of this user.' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_MAX })),
  cursor: Type.Optional(Type.String({ description: '`next` of the page before.' })),
})

export const registrationRoutes: readonly ApiRoute[] = [
  {
    method: 'GET',
    url: `${PROJECT_URL}/registrations`,
    handler: listRegistrations,
    operation: {
      id: 'listRegistrations',
      summary: 'Registrations of the project, by application or user',
      tag: 'registrations',
      scope: Scope.PROJECT_READ,
      params: ProjectParams,
      query: RegistrationQuery,
      answers: { 200: { description: 'A page; it may be short and have a next one.', body: RegistrationPage } },
      errors: ['unknown_project', 'project_inactive'],
    },
  },
  {
    method: 'DELETE',
    url: `${PROJECT_URL}/registrations/:registration`,
    handler: revokeRegistration,
    operation: {
      id: 'revokeRegistration',
      summary: 'End a registration; the app gets another registrationId when it registers again',
      tag: 'registrations',
      scope: Scope.MESSAGE_UPDATE,
      params: Type.Object({
        ...ProjectParams.properties,
        registration: Type.String({ description: 'registrationId' }),
      }),
      answers: {
        200: {
          description: 'It has ended, now or before.',
          body: Type.Object({ registrationId: Type.String(), revoked: Type.Literal(true) }),
        },
      },
      errors: ['unknown_project', 'project_inactive', 'unknown_registration', 'foreign_registration'],
    },
  },
]

/** The query of a list, as the public API and the admin API both take it. */
export function readListing(call: Pick<AuthenticatedCall, 'request'>): {
  by: { application?: string; user?: string }
  page: { from: number; limit: number }
} {
  const application = queryText(call, 'application', 64)
  const user = queryText(call, 'user', USER_CHARACTERS_MAX)
  const limit = queryNumber(call, 'limit', { minimum: 1, maximum: PAGE_MAX, absent: PAGE_MAX })
  const from = queryNumber(call, 'cursor', { minimum: 1, maximum: Number.MAX_SAFE_INTEGER, absent: 1 })
  // What is no application id has no registrations; it must not stand in a filter.
  const byApplication = application === '' ? {} : { application: APPLICATION_ID.test(application) ? application : '-' }
  return { by: { ...byApplication, ...(user === '' ? {} : { user }) }, page: { from, limit } }
}

export function pageOutput(page: { registrations: ListedRegistration[]; next: number | null }): object {
  return {
    registrations: page.registrations.map(({ createdAtMs, ...fields }) => ({
      ...fields,
      createdAt: new Date(createdAtMs).toISOString(),
    })),
    ...(page.next === null ? {} : { next: String(page.next) }),
  }
}

async function list(call: AuthenticatedCall): Promise<object> {
  const { by, page } = readListing(call)
  return pageOutput(await call.context.registrations.list(call.project.id, by, page))
}

async function revoke(call: AuthenticatedCall): Promise<object> {
  const registrationId = paramOf(call, 'registration')
  await call.context.registrations.revoke(call.project.id, registrationId)
  return { registrationId, revoked: true }
}
