/** Projects over HTTP: the look with which an app server starts, and the counters. */
import Type, { type Static } from 'typebox'
import type { CounterRow } from '../../domain/commands.js'
import { inWords, MapOf } from '../../domain/schema.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { PROJECT_URL, ProjectParams, route } from '../route.js'
import { type ApiRoute, type AuthenticatedCall, authenticate, budgeted } from './context.js'
import { DateTime } from './schemas.js'

const Project = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    isActive: Type.Boolean({ description: 'False: the project is suspended. It may look, and not send.' }),
    serviceAccount: Type.Object({ clientId: Type.String() }),
    createdAt: DateTime,
    updatedAt: DateTime,
  },
  { $id: 'Project' },
)

const Counts = MapOf(Type.Integer(), {
  $id: 'Counts',
  description: 'Targets by state: accepted = pending + delivered + expired + dropped + collapsed + cancelled + failed.',
})

const day = (description: string) =>
  Type.Optional(Type.String(inWords('a day such as 2025-01-31', { format: 'date', description })))

export const CountersQuery = Type.Object({
  application: Type.Optional(Type.String({ minLength: 1, description: 'Count this application only.' })),
  from: day('The first UTC day.'),
  to: day('The last UTC day.'),
})
type CountersQuery = Static<typeof CountersQuery>

export const Counters = Type.Object(
  {
    project: Type.String(),
    total: Counts,
    applications: Type.Array(
      Type.Object(
        {
          application: Type.String(),
          day: Type.String({ description: 'The UTC day of acceptance, such as 2025-01-31; `older`: all days before.' }),
          counts: Counts,
        },
        { $id: 'CounterRow' },
      ),
    ),
  },
  { $id: 'Counters' },
)

const scope = Scope.PROJECT_READ
const tag = 'projects'

export const projectRoutes: readonly ApiRoute[] = [
  route({
    method: 'GET',
    url: PROJECT_URL,
    before: authenticate(scope),
    handler: showProject,
    operation: {
      id: 'showProject',
      summary: 'The project: shows that the service is up, the token good and the project active',
      tag,
      scope,
      params: ProjectParams,
      answers: { 200: { description: 'The project.', body: Project } },
      errors: [],
    },
  }),
  route({
    method: 'GET',
    url: `${PROJECT_URL}/counters`,
    before: authenticate(scope),
    handler: budgeted(showCounters),
    operation: {
      id: 'showCounters',
      summary: 'Targets of the project by outcome, application and day',
      tag,
      scope,
      params: ProjectParams,
      query: CountersQuery,
      answers: { 200: { description: 'The counters.', body: Counters } },
      errors: [],
    },
  }),
]

function showProject({ project }: AuthenticatedCall): object {
  return {
    id: project.id,
    name: project.name,
    isActive: project.isActive,
    serviceAccount: { clientId: project.serviceAccount.clientId },
    createdAt: new Date(project.createdAtMs).toISOString(),
    updatedAt: new Date(project.updatedAtMs).toISOString(),
  }
}

async function showCounters({
  context,
  project,
  query,
}: AuthenticatedCall & { query: CountersQuery }): Promise<object> {
  return countersOutput(project.id, await context.readCounters(project.id), query)
}

const DAY = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/

/** A row that is not about one day adds up all days before those that are kept apart. */
export function countersOutput(project: string, all: CounterRow[], { application, from, to }: CountersQuery): object {
  const rows = all.filter(
    (row) =>
      (application === undefined || row.application === application) &&
      (from === undefined || (DAY.test(row.day) && row.day >= from)) &&
      (to === undefined || !DAY.test(row.day) || row.day <= to),
  )
  const total: Record<string, number> = {}
  for (const { counts } of rows) {
    for (const [state, count] of Object.entries(counts)) total[state] = (total[state] ?? 0) + count
  }
  return { project, total, applications: rows }
}
