/** Settings of webhooks: what they may reach, how much at once, and how long they are tried. */
import Type, { type Static } from 'typebox'
import { whole } from '../../../setting-types.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

export const WebhookSettings = Type.Object(
  {
    allowHttp: Type.Boolean({ default: false, description: 'Webhooks may be http as well as https: for development.' }),
    allowedNetworks: Type.String({
      default: '',
      description:
        'Addresses and networks that webhooks may reach though they are not public, separated by commas, such as 10.1.0.0/16. All that is private, loopback or link-local is refused otherwise.',
    }),
    timeoutMs: whole(10_000, 'How long a receiver has for its answer, from the connect to the last byte.', 10),
    responseBytesMax: whole(65_536, 'More of an answer is not read.', 0),
    batchMax: Type.Integer({ minimum: 1, maximum: 1_000, default: 100, description: 'Most events in one POST.' }),
    postsMax: whole(64, 'POSTs under way at once.'),
    postsPerProjectMax: whole(4, 'Those of one project; 1 while it fails.'),
    pendingMax: whole(800, 'Events of one project in memory.'),
    backoffMs: whole(1_000, 'Wait after a failure; doubled by each one that follows, with jitter.'),
    backoffMaxMs: whole(5 * MINUTE_MS, 'Longest wait between two attempts, and what of Retry-After is heeded.'),
    pauseAfterMs: whole(HOUR_MS, 'A webhook that failed for so long is paused.'),
    pausedRetryMs: whole(15 * MINUTE_MS, 'Between two attempts of a webhook that is paused.'),
    retryForMs: whole(3 * DAY_MS, 'An older event is given up; less than `store.outcomeEventsAgeMs`.'),
    secretOverlapMs: whole(DAY_MS, 'How long the secret that was replaced still signs beside the new one.', 0),
  },
  { additionalProperties: false, default: {}, description: 'Webhooks of app servers.' },
)
export type WebhookSettings = Static<typeof WebhookSettings>
