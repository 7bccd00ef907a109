/** Events of a project over the admin API: on, off, and its webhook. */
import type { Static } from 'typebox'
import { NewWebhook } from '../../outcomes/feed-administration.js'
import { feedOutput } from '../../outcomes/feed-output.js'
import { type AdminRoute, adminRoute, PROJECT, type ProjectCall, ProjectParams } from './context.js'
import { ChangedWebhook, Events, RotatedWebhook } from './schemas.js'

const EVENTS = `${PROJECT}/events`
const WEBHOOK = `${PROJECT}/webhook`

const shared = {
  tag: 'events',
  params: ProjectParams,
  answers: { 200: { description: 'The events and the webhook, as they are now.', body: Events } },
} as const
const errors = ['forbidden', 'unknown_project'] as const

export const adminEventRoutes: readonly AdminRoute[] = [
  adminRoute({
    method: 'GET',
    url: EVENTS,
    handler: showEvents,
    operation: { ...shared, id: 'showEvents', summary: 'Show the events and the state of the webhook', errors },
  }),
  adminRoute({
    method: 'POST',
    url: EVENTS,
    handler: turnOn,
    operation: { ...shared, id: 'turnEventsOn', summary: 'Publish the outcomes of messages from now on', errors },
  }),
  adminRoute({
    method: 'DELETE',
    url: EVENTS,
    handler: turnOff,
    operation: { ...shared, id: 'turnEventsOff', summary: 'Publish no more outcomes, and remove the webhook', errors },
  }),
  adminRoute({
    method: 'PUT',
    url: WEBHOOK,
    handler: setWebhook,
    operation: {
      ...shared,
      id: 'setWebhook',
      summary: 'Set the webhook; the secret of a new one is in the answer',
      body: NewWebhook,
      answers: { 200: { description: 'The webhook, as it is now.', body: ChangedWebhook } },
      errors: [...errors, 'webhook_address_refused'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${WEBHOOK}/secret`,
    handler: rotateSecret,
    operation: {
      ...shared,
      id: 'rotateWebhookSecret',
      summary: 'Make a new secret; the one before signs beside it for a while',
      answers: { 201: { description: 'The webhook, with its new secret.', body: RotatedWebhook } },
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'POST',
    url: `${WEBHOOK}/retry`,
    handler: retryWebhook,
    operation: {
      ...shared,
      id: 'retryWebhook',
      summary: 'Try a webhook that is paused or disabled at once',
      errors: [...errors, 'not_found'],
    },
  }),
  adminRoute({
    method: 'DELETE',
    url: WEBHOOK,
    handler: removeWebhook,
    operation: {
      ...shared,
      id: 'removeWebhook',
      summary: 'Remove the webhook; events stay on',
      errors: [...errors, 'not_found'],
    },
  }),
]

async function showEvents({ context, actor, params }: ProjectCall): Promise<object> {
  return feedOutput(await context.feeds.show(actor, params.project))
}

async function turnOn({ context, actor, params }: ProjectCall): Promise<object> {
  return feedOutput(await context.feeds.turnOn(actor, params.project))
}

async function turnOff({ context, actor, params }: ProjectCall): Promise<object> {
  return feedOutput(await context.feeds.turnOff(actor, params.project))
}

async function setWebhook({
  context,
  actor,
  params,
  body,
  reply,
}: ProjectCall & { body: Static<typeof NewWebhook> }): Promise<object> {
  const { secret, ...view } = await context.feeds.setWebhook(actor, params.project, body)
  reply.header('cache-control', 'no-store')
  return { ...feedOutput(view), ...(secret === null ? {} : { secret }) }
}

async function rotateSecret({ context, actor, params, reply }: ProjectCall): Promise<object> {
  const { secret, ...view } = await context.feeds.rotateSecret(actor, params.project)
  reply.code(201).header('cache-control', 'no-store')
  return { ...feedOutput(view), secret }
}

async function retryWebhook({ context, actor, params }: ProjectCall): Promise<object> {
  return feedOutput(await context.feeds.retryWebhook(actor, params.project))
}

async function removeWebhook({ context, actor, params }: ProjectCall): Promise<object> {
  return feedOutput(await context.feeds.removeWebhook(actor, params.project))
}
