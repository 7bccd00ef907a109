/** The feed of a project as `borealis admin` and the admin API show it. */
import { OUTCOME_EVENTS_STREAM, outcomeEventsFilter, readerDurable } from '../../../protocol/subjects.js'
import { FINAL_KINDS } from '../../store/events.js'
import type { Webhook, WebhookState } from '../../store/feeds.js'
import { type Fields, timeOutput } from '../tenants/output.js'
import type { FeedView } from './feed-administration.js'

/** The output has no secrets of the webhook. */
export function feedOutput({ project, feed, state, waiting }: FeedView): Fields {
  const webhook = feed?.webhook ?? null
  return {
    projectId: project,
    isOn: feed !== null,
    nats: feed && {
      subject: outcomeEventsFilter(project),
      stream: OUTCOME_EVENTS_STREAM,
      consumer: readerDurable(project),
      waiting: waiting.reader,
    },
    webhook: webhook && webhookOutput(webhook, state, waiting.webhook),
  }
}

function webhookOutput(webhook: Webhook, state: WebhookState | null, waiting: number | null): Fields {
  const { url, kinds, disabled, secrets, createdAtMs } = webhook
  const optional = (ms: number | null | undefined) => (ms == null ? null : timeOutput(ms))
  return {
    url,
    kinds: kinds ?? FINAL_KINDS,
    state: disabled ? 'disabled' : (state?.state ?? 'new'),
    waiting,
    givenUp: state?.givenUp ?? 0,
    lastSuccessAt: optional(state?.lastSuccessAtMs),
    lastFailureAt: optional(state?.lastFailureAtMs),
    lastError: state?.lastError ?? null,
    failingSince: optional(state?.failingSinceMs),
    disabledAt: optional(disabled?.atMs),
    secrets: secrets.map((one) => ({ createdAt: timeOutput(one.createdAtMs), endsAt: optional(one.endsAtMs) })),
    createdAt: timeOutput(createdAtMs),
  }
}
