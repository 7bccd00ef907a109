/** Topics over HTTP: app servers subscribe and unsubscribe registrations, up to a thousand at once. */
import Type from 'typebox'
import { CodedError, Errors } from '../../../../protocol/errors.js'
import { RegistrationId, TopicName } from '../../domain/message.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { PROJECT_URL, ProjectParams, route } from '../route.js'
import { type ApiRoute, type AuthenticatedCall, authenticate, requireActive } from './context.js'

const REGISTRATIONS_MAX = 1_000

type TopicCall = AuthenticatedCall & { params: { topic: string }; body: { registrationIds: string[] } }

const TopicParams = Type.Object({ ...ProjectParams.properties, topic: TopicName })

const TopicSubscribers = Type.Object(
  { registrationIds: Type.Array(RegistrationId, { minItems: 1, maxItems: REGISTRATIONS_MAX }) },
  { $id: 'TopicSubscribers' },
)

const TopicChange = Type.Object(
  {
    topic: Type.String(),
    done: Type.Integer({ description: 'The number of registrations that are now as they were wanted.' }),
    rejected: Type.Array(
      Type.Object({ target: Type.String(), code: Type.Enum(Object.keys(Errors)) }, { $id: 'RejectedRegistration' }),
    ),
  },
  { $id: 'TopicChange' },
)

export const topicRoutes: readonly ApiRoute[] = [
  topicRoute('subscribe', 'subscribeRegistrations', 'Subscribe registrations to a topic'),
  topicRoute('unsubscribe', 'unsubscribeRegistrations', 'End subscriptions to a topic'),
]

function topicRoute(verb: 'subscribe' | 'unsubscribe', id: string, summary: string): ApiRoute {
  return route({
    method: 'POST',
    url: `${PROJECT_URL}/topics/:topic/${verb}`,
    before: flow(authenticate(Scope.MESSAGE_UPDATE), requireActive),
    handler: (call: TopicCall) => changeTopic(call, verb === 'subscribe'),
    operation: {
      id,
      summary,
      tag: 'registrations',
      scope: Scope.MESSAGE_UPDATE,
      params: TopicParams,
      body: TopicSubscribers,
      answers: {
        200: { description: 'The registrations that are as wanted; repeating it is harmless.', body: TopicChange },
      },
      errors: ['project_inactive'],
    },
  })
}

async function changeTopic({ context, project, params, body }: TopicCall, wanted: boolean): Promise<object> {
  const { topic } = params
  const { done, rejected } = await context.registrations.changeTopic(project.id, topic, body.registrationIds, wanted)
  const ours = rejected.find(({ code }) => Errors[code].owner === 'us')
  // The service could do nothing by a fault of its own: that is an error, and no answer with 1,000 codes in it.
  if (done === 0 && ours) throw new CodedError(ours.code)
  return { topic, done, rejected }
}
