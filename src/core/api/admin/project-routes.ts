/** Projects, their keys and applications over the admin API. */
import Type from 'typebox'
import { applicationOutput, projectOutput } from '../../tenants/output.js'
import { flow } from '../flow.js'
import { paramOf } from '../public/context.js'
import { CountersQuery, countersOutput, readCountersQuery } from '../public/projects.js'
import { pageOutput, RegistrationPage, RegistrationQuery, readListing } from '../public/registrations.js'
import type { Operation } from '../route.js'
import {
  type ActingCall,
  type AdminRoute,
  authenticateActor,
  type BodyCall,
  optionalChoice,
  optionalText,
  present,
  readFields,
  settingsFor,
} from './context.js'
import { Algorithm, Application, Named, NewKey, Project, ProjectParams, PublicKey } from './schemas.js'

export const ADMIN = '/admin/v1'
const PROJECTS = `${ADMIN}/projects`
export const PROJECT = `${PROJECTS}/:project`

export type Run<C> = (call: C, project: string) => Promise<object>
export const looks = (run: Run<ActingCall>) => flow(authenticateActor, (call) => run(call, paramOf(call, 'project')))
export const changes = (run: Run<BodyCall>) =>
  flow(authenticateActor, readFields, (call) => run(call, paramOf(call, 'project')))

const route = (
  method: AdminRoute['method'],
  url: string,
  handler: AdminRoute['handler'],
  operation: Omit<Operation, 'tag'>,
): AdminRoute => ({ method, url, handler, operation: { tag: 'projects', ...operation } })

const answer = (body: Operation['answers'][number]['body'], description = 'Done.', status = 200) => ({
  [status]: { description, body },
})

export const adminProjectRoutes: readonly AdminRoute[] = [
  route('GET', PROJECTS, looks(listProjects), {
    ...{ id: 'listProjects', summary: 'Projects that this credential may see', errors: [] },
    answers: answer(Type.Object({ projects: Type.Array(Project) }), 'The projects.'),
  }),
  route('POST', PROJECTS, changes(createProject), {
    ...{
      id: 'createProject',
      summary: 'Make a project and the settings file of its app server',
      errors: ['forbidden'],
    },
    body: Type.Object({ ...Named.properties, id: Type.Optional(Type.String()), alg: Type.Optional(Algorithm) }),
    answers: answer(Type.Object({ ...Project.properties, ...NewKey.properties }), 'The project.', 201),
  }),
  route('GET', PROJECT, looks(showProject), {
    ...{ id: 'showProjectSettings', summary: 'A project', errors: ['forbidden', 'unknown_project'] },
    ...{ params: ProjectParams, answers: answer(Project, 'The project.') },
  }),
  ...(['suspend', 'resume'] as const).map((verb) =>
    route('POST', `${PROJECT}/${verb}`, changes(setActive(verb === 'resume')), {
      ...{ id: `${verb}Project`, summary: `${verb === 'resume' ? 'End' : 'Begin'} a suspension` },
      ...{ params: ProjectParams, answers: answer(Project), errors: ['forbidden', 'unknown_project'] },
    }),
  ),
  route('POST', `${PROJECT}/limits`, changes(setLimits), {
    ...{ id: 'limitProject', summary: 'How much a project may send', errors: ['forbidden', 'unknown_project'] },
    ...{ params: ProjectParams, answers: answer(Project) },
    body: Type.Object({ messagesPerSecond: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]) }),
  }),
  route('POST', `${PROJECT}/keys`, changes(addKey), {
    ...{ id: 'addKey', summary: 'Another key beside those there are', errors: ['forbidden', 'unknown_project'] },
    ...{ params: ProjectParams, body: Type.Object({ alg: Type.Optional(Algorithm) }) },
    answers: answer(NewKey, 'The key, in a settings file.', 201),
  }),
  route('POST', `${PROJECT}/public-keys`, changes(addPublicKey), {
    ...{ id: 'addPublicKey', summary: 'The public part of a key that the app server made' },
    ...{ params: ProjectParams, body: Type.Object({ publicKey: PublicKey }) },
    answers: answer(Type.Object({ keyId: Type.String(), alg: Algorithm }), 'What to sign with from now on.', 201),
    errors: ['forbidden', 'unknown_project'],
  }),
  route('DELETE', `${PROJECT}/keys/:key`, looks(removeKey), {
    ...{ id: 'removeKey', summary: 'Refuse a key, and the tokens asked for with it' },
    params: Type.Object({ ...ProjectParams.properties, key: Type.String() }),
    ...{ answers: answer(Project), errors: ['forbidden', 'unknown_project'] },
  }),
  route('GET', `${PROJECT}/applications`, looks(listApplications), {
    ...{ id: 'listApplications', summary: 'Applications of a project', errors: ['forbidden', 'unknown_project'] },
    ...{ params: ProjectParams, answers: answer(Type.Object({ applications: Type.Array(Application) })) },
  }),
  route('POST', `${PROJECT}/applications`, changes(createApplication), {
    ...{ id: 'createApplication', summary: 'Make an application', errors: ['forbidden', 'unknown_project'] },
    ...{ params: ProjectParams, body: Named, answers: answer(Application, 'The application.', 201) },
  }),
  route('GET', `${PROJECT}/registrations`, looks(listRegistrations), {
    ...{
      id: 'listProjectRegistrations',
      summary: 'Registrations of a project',
      errors: ['forbidden', 'unknown_project'],
    },
    ...{ params: ProjectParams, query: RegistrationQuery, answers: answer(RegistrationPage, 'A page.') },
  }),
  route('DELETE', `${PROJECT}/registrations/:registration`, looks(revokeRegistration), {
    ...{ id: 'revokeProjectRegistration', summary: 'End a registration' },
    params: Type.Object({ ...ProjectParams.properties, registration: Type.String() }),
    answers: answer(Type.Object({ registrationId: Type.String(), revoked: Type.Literal(true) })),
    errors: ['forbidden', 'unknown_registration', 'foreign_registration'],
  }),
  route('GET', `${PROJECT}/counters`, looks(showCounters), {
    ...{
      id: 'showProjectCounters',
      summary: 'Counters by application and day',
      errors: ['forbidden', 'unknown_project'],
    },
    ...{ params: ProjectParams, query: CountersQuery },
    answers: answer(Type.Record(Type.String(), Type.Unknown()), 'As the public API has them.'),
  }),
]

async function listProjects({ context, actor }: ActingCall): Promise<object> {
  return { projects: (await context.administration.projects(actor)).map(projectOutput) }
}

async function createProject(call: BodyCall): Promise<object> {
  const { context, actor, reply } = call
  const options = present({ id: optionalText(call, 'id'), name: optionalText(call, 'name'), alg: algorithm(call) })
  const { project, serviceKey } = await context.administration.createProject(actor, options)
  reply.code(201).header('cache-control', 'no-store')
  const { clientId } = project.serviceAccount
  return { ...projectOutput(project), ...settingsFor(context, { id: project.id, clientId }, serviceKey) }
}

async function showProject({ context, actor }: ActingCall, project: string): Promise<object> {
  return projectOutput(await context.administration.project(actor, project))
}

function setActive(isActive: boolean): Run<BodyCall> {
  return async ({ context, actor }, project) =>
    projectOutput(await context.administration.setActive(actor, project, isActive))
}

async function setLimits({ context, actor, fields }: BodyCall, project: string): Promise<object> {
  // What is no number is refused where limits are set.
  const messagesPerSecond = (fields.messagesPerSecond ?? null) as number | null
  return projectOutput(await context.administration.setLimits(actor, project, { messagesPerSecond }))
}

async function addKey(call: BodyCall, id: string): Promise<object> {
  const { context, actor, reply } = call
  const { project, serviceKey } = await context.administration.addKey(actor, id, algorithm(call))
  reply.code(201).header('cache-control', 'no-store')
  return settingsFor(context, { id, clientId: project.serviceAccount.clientId }, serviceKey)
}

async function addPublicKey(call: BodyCall, id: string): Promise<object> {
  const { context, actor, reply } = call
  const { key } = await context.administration.addPublicKey(actor, id, optionalText(call, 'publicKey') ?? '')
  reply.code(201)
  return { keyId: key.kid, alg: key.alg }
}

async function removeKey(call: ActingCall, project: string): Promise<object> {
  return projectOutput(await call.context.administration.removeKey(call.actor, project, paramOf(call, 'key')))
}

async function listApplications({ context, actor }: ActingCall, id: string): Promise<object> {
  await context.administration.project(actor, id)
  const all = await context.administration.applications(actor)
  return { applications: all.filter(({ project }) => project === id).map(applicationOutput) }
}

async function createApplication(call: BodyCall, project: string): Promise<object> {
  const options = present({ name: optionalText(call, 'name') })
  const application = await call.context.administration.createApplication(call.actor, project, options)
  call.reply.code(201)
  return applicationOutput(application)
}

async function listRegistrations(call: ActingCall, project: string): Promise<object> {
  call.context.administration.look(call.actor, 'registration.list', project)
  const { by, page } = readListing(call)
  return pageOutput(await call.context.registrations.list(project, by, page))
}

async function revokeRegistration(call: ActingCall, project: string): Promise<object> {
  const { context, actor } = call
  const registrationId = paramOf(call, 'registration')
  await context.administration.change(actor, 'registration.revoke', project, { registrationId }, () =>
    context.registrations.revoke(project, registrationId),
  )
  return { registrationId, revoked: true }
}

async function showCounters(call: ActingCall, project: string): Promise<object> {
  call.context.administration.look(call.actor, 'counters.show', project)
  return countersOutput(project, await call.context.readCounters(project), readCountersQuery(call))
}

const algorithm = (call: BodyCall) => optionalChoice(call, 'alg', ['RS256', 'ES256'] as const)
