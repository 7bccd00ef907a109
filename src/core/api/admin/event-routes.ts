/** Events of a project over the admin API: on, off, and its webhook. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import { FINAL_KINDS } from '../../../store/events.js'
import { feedOutput } from '../../outcomes/feed-output.js'
import type { Operation } from '../route.js'
import { type ActingCall, type AdminRoute, type BodyCall, optionalText } from './context.js'
import { changes, looks, PROJECT } from './project-routes.js'
import { Events, ProjectParams } from './schemas.js'

const EVENTS = `${PROJECT}/events`
const WEBHOOK = `${PROJECT}/webhook`

const route = (
  method: AdminRoute['method'],
  url: string,
  handler: AdminRoute['handler'],
  operation: Pick<Operation, 'id' | 'summary' | 'body' | 'errors'> & Partial<Operation>,
): AdminRoute => ({
  ...{ method, url, handler },
  operation: { tag: 'events', params: ProjectParams, answers: done, ...operation },
})

const done = { 200: { description: 'As it is now.', body: Events } }
const Secret = Type.String({ description: 'Shown once. `whsec_` and base64 of the key, as Standard Webhooks have it.' })
const theirs = ['forbidden', 'unknown_project'] as const

export const adminEventRoutes: readonly AdminRoute[] = [
  route('GET', EVENTS, looks(show), {
    ...{ id: 'showEvents', summary: 'Whether events are told, and how the webhook does', errors: theirs },
  }),
  route('POST', EVENTS, changes(turnOn), {
    ...{ id: 'turnEventsOn', summary: 'Tell what ends from now on', errors: theirs },
  }),
  route('DELETE', EVENTS, looks(turnOff), {
    ...{ id: 'turnEventsOff', summary: 'Tell nothing more, and remove the webhook', errors: theirs },
  }),
  route('PUT', WEBHOOK, changes(setWebhook), {
    ...{ id: 'setWebhook', summary: 'Set the webhook; the secret of a new one is in the answer' },
    body: Type.Object({
      url: Type.String({ maxLength: 2_048 }),
      kinds: Type.Optional(Type.Array(Type.Enum([...FINAL_KINDS]), { description: 'Absent: all.' })),
    }),
    answers: {
      200: { ...done[200], body: Type.Object({ ...Events.properties, secret: Type.Optional(Secret) }) },
    },
    errors: [...theirs, 'webhook_address_refused'],
  }),
  route('POST', `${WEBHOOK}/secret`, changes(rotateSecret), {
    ...{ id: 'rotateWebhookSecret', summary: 'A new secret; the one before signs beside it for a while' },
    answers: { 201: { ...done[200], body: Type.Object({ ...Events.properties, secret: Secret }) } },
    errors: [...theirs, 'not_found'],
  }),
  route('POST', `${WEBHOOK}/retry`, changes(retryWebhook), {
    ...{
      id: 'retryWebhook',
      summary: 'Try a webhook that is paused or disabled at once',
      errors: [...theirs, 'not_found'],
    },
  }),
  route('DELETE', WEBHOOK, looks(removeWebhook), {
    ...{ id: 'removeWebhook', summary: 'Remove the webhook; events stay on', errors: [...theirs, 'not_found'] },
  }),
]

async function show({ context, actor }: ActingCall, project: string): Promise<object> {
  return feedOutput(await context.feeds.show(actor, project))
}

async function turnOn({ context, actor }: ActingCall, project: string): Promise<object> {
  return feedOutput(await context.feeds.turnOn(actor, project))
}

async function turnOff({ context, actor }: ActingCall, project: string): Promise<object> {
  return feedOutput(await context.feeds.turnOff(actor, project))
}

async function setWebhook(call: BodyCall, project: string): Promise<object> {
  const { context, actor, fields, reply } = call
  const kinds = fields.kinds ?? null
  if (kinds !== null && !(Array.isArray(kinds) && kinds.every((one): one is string => typeof one === 'string'))) {
    throw new CodedError('invalid_request', 'kinds must be a list of kinds', { field: 'kinds' })
  }
  const url = optionalText(call, 'url') ?? ''
  const { secret, ...view } = await context.feeds.setWebhook(actor, project, { url, kinds })
  reply.header('cache-control', 'no-store')
  return { ...feedOutput(view), ...(secret === null ? {} : { secret }) }
}

async function rotateSecret({ context, actor, reply }: BodyCall, project: string): Promise<object> {
  const { secret, ...view } = await context.feeds.rotateSecret(actor, project)
  reply.code(201).header('cache-control', 'no-store')
  return { ...feedOutput(view), secret }
}

async function retryWebhook({ context, actor }: ActingCall, project: string): Promise<object> {
  return feedOutput(await context.feeds.retryWebhook(actor, project))
}

async function removeWebhook({ context, actor }: ActingCall, project: string): Promise<object> {
  return feedOutput(await context.feeds.removeWebhook(actor, project))
}
