/** Projects over HTTP: what an app server checks at its start, and the counters. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import type { CounterRow } from '../../domain/commands.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { queryText } from '../query.js'
import { PROJECT_URL, ProjectParams } from '../route.js'
import type { ApiRoute } from './context.js'
import { type AuthenticatedCall, authenticate } from './context.js'

const showProject = flow(authenticate(Scope.PROJECT_READ), answerProject)
const showCounters = flow(authenticate(Scope.PROJECT_READ), answerCounters)

const Project = Type.Object({
  id: Type.String(),
  name: Type.String(),
  isActive: Type.Boolean({ description: 'A suspended project may look, and not send.' }),
  serviceAccount: Type.Object({ clientId: Type.String() }),
  createdAt: Type.String({ format: 'date-time' }),
  updatedAt: Type.String({ format: 'date-time' }),
})

const Counts = Type.Record(Type.String(), Type.Integer(), {
  description: 'Targets by state: accepted = pending + delivered + expired + dropped + collapsed + cancelled + failed.',
})

export const CountersQuery = Type.Object({
  application: Type.Optional(Type.String({ description: 'Only this one.' })),
  from: Type.Optional(Type.String({ format: 'date', description: 'First UTC day.' })),
  to: Type.Optional(Type.String({ format: 'date', description: 'Last UTC day.' })),
})

const Counters = Type.Object({
  project: Type.String(),
  total: Counts,
  applications: Type.Array(
    Type.Object({
      application: Type.String(),
      day: Type.String({ description: 'UTC day of acceptance, such as 2025-01-31; `older`: all days before.' }),
      counts: Counts,
    }),
  ),
})

export const projectRoutes: readonly ApiRoute[] = [
  {
    method: 'GET',
    url: PROJECT_URL,
    handler: showProject,
    operation: {
      id: 'showProject',
      summary: 'The project: whether the service is up, the token good and the project active',
      tag: 'projects',
      scope: Scope.PROJECT_READ,
      params: ProjectParams,
      answers: { 200: { description: 'The project.', body: Project } },
      errors: ['unknown_project'],
    },
  },
  {
    method: 'GET',
    url: `${PROJECT_URL}/counters`,
    handler: showCounters,
    operation: {
      id: 'showCounters',
      summary: 'What became of the targets of the project, by application and day',
      tag: 'projects',
      scope: Scope.PROJECT_READ,
      params: ProjectParams,
      query: CountersQuery,
      answers: { 200: { description: 'The counters.', body: Counters } },
      errors: ['unknown_project'],
    },
  },
]

function answerProject({ project }: AuthenticatedCall): object {
  return {
    id: project.id,
    name: project.name,
    isActive: project.isActive,
    serviceAccount: { clientId: project.serviceAccount.clientId },
    createdAt: new Date(project.createdAtMs).toISOString(),
    updatedAt: new Date(project.updatedAtMs).toISOString(),
  }
}

async function answerCounters(call: AuthenticatedCall): Promise<object> {
  const { context, project } = call
  return countersOutput(project.id, await context.readCounters(project.id), readCountersQuery(call))
}

interface CountersWanted {
  application: string
  from: string
  to: string
}

const DAY = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/

/** Throws CodedError `invalid_request`. */
export function readCountersQuery(call: Pick<AuthenticatedCall, 'request'>): CountersWanted {
  const dayOf = (name: string) => {
    const day = queryText(call, name, 16)
    if (day === '' || (DAY.test(day) && !Number.isNaN(Date.parse(day)))) return day
    throw new CodedError('invalid_request', `${name} must be a day such as 2025-01-31`, { field: name })
  }
  return { application: queryText(call, 'application', 64), from: dayOf('from'), to: dayOf('to') }
}

/** Days that were added up in one row are before every day there is. */
export function countersOutput(project: string, all: CounterRow[], { application, from, to }: CountersWanted): object {
  const rows = all.filter(
    (row) =>
      (application === '' || row.application === application) &&
      (from === '' || (DAY.test(row.day) && row.day >= from)) &&
      (to === '' || !DAY.test(row.day) || row.day <= to),
  )
  const total: Record<string, number> = {}
  for (const { counts } of rows) {
    for (const [state, count] of Object.entries(counts)) total[state] = (total[state] ?? 0) + count
  }
  return { project, total, applications: rows }
}
