/** Topics over HTTP: app servers subscribe and unsubscribe registrations, up to a thousand at once. */
import Type from 'typebox'
import { CodedError, Errors } from '../../../../protocol/errors.js'
import { TOPIC_NAME } from '../../../store/tenants.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { readJson } from '../body.js'
import { flow } from '../flow.js'
import { PROJECT_URL, ProjectParams } from '../route.js'
import type { ApiRoute } from './context.js'
import { type AuthenticatedCall, authenticate, paramOf, requireActive } from './context.js'

const REGISTRATIONS_MAX = 1_000
const REGISTRATION_CHARACTERS_MAX = 512

interface TopicCall extends AuthenticatedCall {
  topic: string
  registrationIds: string[]
}

const change = (wanted: boolean) =>
  flow(authenticate(Scope.MESSAGE_UPDATE), requireActive, readJson('one'), validate, (call: TopicCall) =>
    changeTopic(call, wanted),
  )

const operation = {
  tag: 'registrations',
  scope: Scope.MESSAGE_UPDATE,
  params: Type.Object({ ...ProjectParams.properties, topic: Type.String({ pattern: TOPIC_NAME.source }) }),
  body: Type.Object({
    registrationIds: Type.Array(Type.String({ maxLength: REGISTRATION_CHARACTERS_MAX }), {
      minItems: 1,
      maxItems: REGISTRATIONS_MAX,
    }),
  }),
  answers: {
    200: {
      description: 'For how many it is so now, and for which it is not; repeating it is harmless.',
      body: Type.Object({
        topic: Type.String(),
        done: Type.Integer(),
        rejected: Type.Array(Type.Object({ target: Type.String(), code: Type.Enum(Object.keys(Errors)) })),
      }),
    },
  },
  errors: ['unknown_project', 'project_inactive'],
} as const

export const topicRoutes: readonly ApiRoute[] = [
  {
    method: 'POST',
    url: `${PROJECT_URL}/topics/:topic/subscribe`,
    handler: change(true),
    operation: { ...operation, id: 'subscribeRegistrations', summary: 'Subscribe registrations to a topic' },
  },
  {
    method: 'POST',
    url: `${PROJECT_URL}/topics/:topic/unsubscribe`,
    handler: change(false),
    operation: { ...operation, id: 'unsubscribeRegistrations', summary: 'End subscriptions to a topic' },
  },
]

function validate(call: AuthenticatedCall & { body: unknown }): TopicCall {
  const topic = paramOf(call, 'topic')
  if (!TOPIC_NAME.test(topic)) throw new CodedError('invalid_request', 'not the name of a topic', { field: 'topic' })
  const { body } = call
  const ids = typeof body === 'object' && body !== null ? (body as Record<string, unknown>).registrationIds : undefined
  const field = 'registrationIds'
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > REGISTRATIONS_MAX) {
    throw new CodedError('invalid_request', `${field} must be a list of 1 to ${REGISTRATIONS_MAX}`, { field })
  }
  const registrationIds = ids.map((id: unknown, index) => {
    if (typeof id === 'string' && id !== '' && id.length <= REGISTRATION_CHARACTERS_MAX) return id
    const at = `${field}[${index}]`
    throw new CodedError('invalid_request', `${at} must be a registrationId`, { field: at })
  })
  return { ...call, topic, registrationIds }
}

async function changeTopic({ context, project, topic, registrationIds }: TopicCall, wanted: boolean): Promise<object> {
  const { done, rejected } = await context.registrations.changeTopic(project.id, topic, registrationIds, wanted)
  const ours = rejected.find(({ code }) => Errors[code].owner === 'us')
  // Where nothing could be done because of us, it is no answer to look into.
  if (done === 0 && ours) throw new CodedError(ours.code)
  return { topic, done, rejected }
}
