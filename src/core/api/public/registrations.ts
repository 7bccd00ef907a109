/** Registrations of a project over HTTP: listed by application or user, and ended. */
import Type, { type Static } from 'typebox'
import { CHANNELS } from '../../../store/devices.js'
import { APPLICATION_ID, USER_CHARACTERS_MAX } from '../../../store/tenants.js'
import type { ListedRegistration } from '../../devices/registrations.js'
import { Text, TextLike } from '../../domain/schema.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { PROJECT_URL, ProjectParams, route } from '../route.js'
import { type ApiRoute, type AuthenticatedCall, authenticate, budgeted, requireActive } from './context.js'
import { DateTime } from './schemas.js'

const PAGE_MAX = 100

const Registration = Type.Object(
  {
    registrationId: Type.String({ description: 'The target of messages.' }),
    application: Type.String(),
    deviceId: Type.String(),
    user: Type.String({ description: 'Empty: none.' }),
    channel: Type.Enum([...CHANNELS], { description: 'The way to the device.' }),
    createdAt: DateTime,
  },
  { $id: 'Registration' },
)

export const RegistrationPage = Type.Object(
  {
    registrations: Type.Array(Registration),
    next: Type.Optional(Type.String({ description: '`cursor` of the next page; absent on the last page.' })),
  },
  { $id: 'RegistrationPage' },
)

export const RegistrationQuery = Type.Object({
  application: Type.Optional(Type.String({ minLength: 1, description: 'Only registrations of this application.' })),
  user: Type.Optional(
    Text({ minLength: 1, maxLength: USER_CHARACTERS_MAX, description: 'Only registrations of this user.' }),
  ),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_MAX })),
  cursor: Type.Optional(
    TextLike(/^[1-9][0-9]{0,14}$/, 'the `next` of a page', { description: '`next` of the page before.' }),
  ),
})

export const RegistrationParams = Type.Object({
  ...ProjectParams.properties,
  registration: Type.String({ description: 'The registrationId.' }),
})

export const EndedRegistration = Type.Object(
  { registrationId: Type.String(), revoked: Type.Literal(true) },
  { $id: 'EndedRegistration' },
)

const tag = 'registrations'

export const registrationRoutes: readonly ApiRoute[] = [
  route({
    method: 'GET',
    url: `${PROJECT_URL}/registrations`,
    before: flow(authenticate(Scope.PROJECT_READ), requireActive),
    handler: budgeted(listRegistrations),
    operation: {
      id: 'listRegistrations',
      summary: 'Registrations of the project, by application or user',
      tag,
      scope: Scope.PROJECT_READ,
      params: ProjectParams,
      query: RegistrationQuery,
      answers: { 200: { description: 'A page. A page may be short and have a next one.', body: RegistrationPage } },
      errors: ['project_inactive'],
    },
  }),
  route({
    method: 'DELETE',
    url: `${PROJECT_URL}/registrations/:registration`,
    before: flow(authenticate(Scope.MESSAGE_UPDATE), requireActive),
    handler: revokeRegistration,
    operation: {
      id: 'revokeRegistration',
      summary: 'End a registration; the app gets another registrationId when it registers again',
      tag,
      scope: Scope.MESSAGE_UPDATE,
      params: RegistrationParams,
      answers: { 200: { description: 'The registration has ended, now or before.', body: EndedRegistration } },
      errors: ['project_inactive', 'unknown_registration', 'foreign_registration'],
    },
  }),
]

/** The arguments of Registrations.list from a query, as the public API and the admin API both take it. */
export function listingOf({ application, user, limit = PAGE_MAX, cursor = '1' }: Static<typeof RegistrationQuery>): {
  by: { application?: string; user?: string }
  page: { from: number; limit: number }
} {
  // A text that is no application id has no registrations, and must not stand in a filter.
  const id = application === undefined || APPLICATION_ID.test(application) ? application : '-'
  return {
    by: { ...(id !== undefined && { application: id }), ...(user !== undefined && { user }) },
    page: { from: Number(cursor), limit },
  }
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

async function listRegistrations({
  context,
  project,
  query,
}: AuthenticatedCall & { query: Static<typeof RegistrationQuery> }): Promise<object> {
  const { by, page } = listingOf(query)
  return pageOutput(await context.registrations.list(project.id, by, page))
}

async function revokeRegistration({
  context,
  project,
  params,
}: AuthenticatedCall & { params: { registration: string } }): Promise<object> {
  const registrationId = params.registration
  await context.registrations.revoke(project.id, registrationId)
  return { registrationId, revoked: true }
}
