/** Projects over HTTP: what an app server checks at its start, and the counters. */
import Type from 'typebox'
import { Scope } from '../tenants/tokens.js'
import { type AuthenticatedCall, authenticate } from './face.js'
import { flow } from './flow.js'
import { PROJECT_URL, ProjectParams, type Route } from './route.js'

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

export const projectRoutes: readonly Route[] = [
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

async function answerCounters({ face, project }: AuthenticatedCall): Promise<object> {
  const rows = await face.readCounters(project.id)
  const total: Record<string, number> = {}
  for (const { counts } of rows) {
    for (const [state, count] of Object.entries(counts)) total[state] = (total[state] ?? 0) + count
  }
  return { project: project.id, total, applications: rows }
}
