import { outcomeEventsFilter, webhookDurable } from '../../../../protocol/subjects.js'
import type { ConsumeOptions } from '../../../nats/broker.js'
import type { WebhookSettings } from './settings.js'

/** As the server waits for an acknowledgement; what is held longer is said to be worked on. */
export const ACK_WAIT_MS = 30_000

/** The durable consumer of a project's webhook: it begins when the webhook is set. */
export const consumerOf = (project: string, { pendingMax }: Pick<WebhookSettings, 'pendingMax'>): ConsumeOptions => ({
  ...{ durable: webhookDurable(project), filter: outcomeEventsFilter(project), startsAt: 'new' },
  ...{ ackWaitMs: ACK_WAIT_MS, pendingMax },
})
