/** Projects over HTTP: what an app server checks at its start, and the counters. */
import { Scope } from '../tenants/tokens.js'
import { type AuthenticatedCall, authenticate } from './face.js'
import { flow } from './flow.js'

/** GET .../projects/{id} */
export const showProject = flow(authenticate(Scope.PROJECT_READ), answerProject)

/** GET .../projects/{id}/counters */
export const showCounters = flow(authenticate(Scope.PROJECT_READ), answerCounters)

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
