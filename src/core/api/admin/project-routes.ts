/** Projects, their keys and applications over the admin API. */
import Type, { type Static, type TSchema } from 'typebox'
import { ApplicationChange, NewApplication, NewKey, NewLimits, NewProject, NewPublicKey } from '../../tenants/fields.js'
import { applicationOutput, projectOutput } from '../../tenants/output.js'
import { Counters, CountersQuery, countersOutput } from '../public/projects.js'
import {
  EndedRegistration,
  listingOf,
  pageOutput,
  RegistrationPage,
  RegistrationParams,
  RegistrationQuery,
} from '../public/registrations.js'
import {
  type ActingCall,
  ADMIN,
  type AdminRoute,
  adminRoute,
  PROJECT,
  type ProjectCall,
  ProjectParams,
  settingsFor,
} from './context.js'
import { AddedPublicKey, Application, CreatedKey, CreatedProject, Project } from './schemas.js'

const PROJECTS = `${ADMIN}/projects`

const ApplicationParams = Type.Object({
  project: Type.String({ description: 'The id of the project.' }),
  application: Type.String({ description: 'The id of the application.' }),
})

const tag = 'projects'
const params = ProjectParams
const errors = ['forbidden', 'unknown_project'] as const

const ok = (body: TSchema, description = 'Done.') => ({ 200: { description, body } })
const created = (body: TSchema, description: string) => ({ 201: { description, body } })

export const adminProjectRoutes: readonly AdminRoute[] = [
  adminRoute({
    method: 'GET',
    url: PROJECTS,
    handler: listProjects,
    operation: {
      id: 'listProjects',
      summary: 'Projects that this credential may see',
      tag,
      answers: ok(Type.Object({ projects: Type.Array(Project) }, { $id: 'ProjectList' }), 'The projects.'),
      errors: [],
    },
  }),
  adminRoute({
    method: 'POST',
    url: PROJECTS,
    handler: createProject,
    operation: {
      id: 'createProject',
      summary: 'Make a project and the settings file of its app server',
      tag,
      body: NewProject,
      answers: created(CreatedProject, 'The project.'),
      errors: ['forbidden', 'conflict'],
    },
  }),
  adminRoute({
    method: 'GET',
    url: PROJECT,
    handler: showProject,
    operation: {
      id: 'showProject',
      summary: 'Show a project',
      tag,
      params,
      answers: ok(Project, 'The project.'),
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/suspend`,
    handler: (call: ProjectCall) => setActive(call, false),
    operation: { id: 'suspendProject', summary: 'Suspend a project', tag, params, answers: ok(Project), errors },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/resume`,
    handler: (call: ProjectCall) => setActive(call, true),
    operation: { id: 'resumeProject', summary: 'End a suspension', tag, params, answers: ok(Project), errors },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/limits`,
    handler: setLimits,
    operation: {
      id: 'limitProject',
      summary: 'Set how much a project may send',
      tag,
      params,
      body: NewLimits,
      answers: ok(Project),
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/keys`,
    handler: addKey,
    operation: {
      id: 'addKey',
      summary: 'Make another key beside those of the project',
      tag,
      params,
      body: NewKey,
      answers: created(CreatedKey, 'The key, in a settings file.'),
      errors: [...errors, 'conflict'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/public-keys`,
    handler: addPublicKey,
    operation: {
      id: 'addPublicKey',
      summary: 'Add the public part of a key that the app server made',
      tag,
      params,
      body: NewPublicKey,
      answers: created(AddedPublicKey, 'The id and the algorithm of the key.'),
      errors: [...errors, 'conflict'],
    },
  }),
  adminRoute({
    method: 'DELETE',
    url: `${PROJECT}/keys/:key`,
    handler: removeKey,
    operation: {
      id: 'removeKey',
      summary: 'Refuse a key from now on, and the tokens that were issued for it',
      tag,
      params: Type.Object({ ...ProjectParams.properties, key: Type.String({ description: 'The id of the key.' }) }),
      answers: ok(Project),
      errors: [...errors, 'not_found', 'conflict'],
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${PROJECT}/applications`,
    handler: listApplications,
    operation: {
      id: 'listApplications',
      summary: 'Applications of a project',
      tag,
      params,
      answers: ok(
        Type.Object({ applications: Type.Array(Application) }, { $id: 'ApplicationList' }),
        'The applications.',
      ),
      errors,
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${PROJECT}/applications`,
    handler: createApplication,
    operation: {
      id: 'createApplication',
      summary: 'Make an application',
      tag,
      params,
      body: NewApplication,
      answers: created(Application, 'The application.'),
      errors,
    },
  }),
  adminRoute({
    method: 'PUT',
    url: `${PROJECT}/applications/:application`,
    handler: setApplication,
    operation: {
      id: 'setApplication',
      summary: 'Change an application',
      tag,
      params: ApplicationParams,
      body: ApplicationChange,
      answers: ok(Application, 'The application. Registrations that exist stay.'),
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${PROJECT}/registrations`,
    handler: listRegistrations,
    operation: {
      id: 'listRegistrations',
      summary: 'Registrations of a project',
      tag,
      params,
      query: RegistrationQuery,
      answers: ok(RegistrationPage, 'A page. A page may be short and have a next one.'),
      errors,
    },
  }),
  adminRoute({
    method: 'DELETE',
    url: `${PROJECT}/registrations/:registration`,
    handler: revokeRegistration,
    operation: {
      id: 'revokeRegistration',
      summary: 'End a registration',
      tag,
      params: RegistrationParams,
      answers: ok(EndedRegistration, 'The registration has ended, now or before.'),
      errors: [...errors, 'unknown_registration', 'foreign_registration'],
    },
  }),
  adminRoute({
    method: 'GET',
    url: `${PROJECT}/counters`,
    handler: showCounters,
    operation: {
      id: 'showCounters',
      summary: 'Targets of a project by outcome, application and day',
      tag,
      params,
      query: CountersQuery,
      answers: ok(Counters, 'The counters.'),
      errors,
    },
  }),
]

async function listProjects({ context, actor }: ActingCall): Promise<object> {
  return { projects: (await context.administration.projects(actor)).map(projectOutput) }
}

async function createProject({ context, actor, body, reply }: ActingCall & { body: NewProject }): Promise<object> {
  const { project, serviceKey } = await context.administration.createProject(actor, body)
  reply.code(201).header('cache-control', 'no-store')
  const { clientId } = project.serviceAccount
  return { ...projectOutput(project), ...settingsFor(context, { id: project.id, clientId }, serviceKey) }
}

async function showProject({ context, actor, params }: ProjectCall): Promise<object> {
  return projectOutput(await context.administration.project(actor, params.project))
}

async function setActive({ context, actor, params }: ProjectCall, isActive: boolean): Promise<object> {
  return projectOutput(await context.administration.setActive(actor, params.project, isActive))
}

async function setLimits({ context, actor, params, body }: ProjectCall & { body: NewLimits }): Promise<object> {
  return projectOutput(await context.administration.setLimits(actor, params.project, body))
}

async function addKey({
  context,
  actor,
  params,
  body,
  reply,
}: ProjectCall & { body: Static<typeof NewKey> }): Promise<object> {
  const { project, serviceKey } = await context.administration.addKey(actor, params.project, body.alg)
  reply.code(201).header('cache-control', 'no-store')
  return settingsFor(context, { id: project.id, clientId: project.serviceAccount.clientId }, serviceKey)
}

async function addPublicKey({
  context,
  actor,
  params,
  body,
  reply,
}: ProjectCall & { body: Static<typeof NewPublicKey> }): Promise<object> {
  const { key } = await context.administration.addPublicKey(actor, params.project, body.publicKey)
  reply.code(201)
  return { keyId: key.kid, alg: key.alg }
}

async function removeKey({ context, actor, params }: ProjectCall & { params: { key: string } }): Promise<object> {
  return projectOutput(await context.administration.removeKey(actor, params.project, params.key))
}

async function listApplications({ context, actor, params }: ProjectCall): Promise<object> {
  await context.administration.project(actor, params.project)
  const all = await context.administration.applications(actor)
  return { applications: all.filter(({ project }) => project === params.project).map(applicationOutput) }
}

async function createApplication({
  context,
  actor,
  params,
  body,
  reply,
}: ProjectCall & { body: Static<typeof NewApplication> }): Promise<object> {
  const application = await context.administration.createApplication(actor, params.project, body)
  reply.code(201)
  return applicationOutput(application)
}

async function setApplication({
  context,
  actor,
  params,
  body,
}: ProjectCall & { params: { application: string }; body: ApplicationChange }): Promise<object> {
  const { project, application } = params
  return applicationOutput(await context.administration.setNeedsUser(actor, project, application, body.needsUser))
}

async function listRegistrations({
  context,
  actor,
  params,
  query,
}: ProjectCall & { query: Static<typeof RegistrationQuery> }): Promise<object> {
  context.administration.requireView(actor, 'registration.list', params.project)
  const { by, page } = listingOf(query)
  return pageOutput(
    await context.queries.run(params.project, () => context.registrations.list(params.project, by, page)),
  )
}

async function revokeRegistration({
  context,
  actor,
  params,
}: ProjectCall & { params: { registration: string } }): Promise<object> {
  const { project, registration: registrationId } = params
  await context.administration.change(actor, 'registration.revoke', project, { registrationId }, () =>
    context.registrations.revoke(project, registrationId),
  )
  return { registrationId, revoked: true }
}

async function showCounters({
  context,
  actor,
  params,
  query,
}: ProjectCall & { query: Static<typeof CountersQuery> }): Promise<object> {
  context.administration.requireView(actor, 'counters.show', params.project)
  const counters = await context.queries.run(params.project, () => context.readCounters(params.project))
  return countersOutput(params.project, counters, query)
}
