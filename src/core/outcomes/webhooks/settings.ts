/** Settings of webhooks: allowed addresses, limits and times. */
import Type, { type Static } from 'typebox'
import { whole } from '../../../setting-types.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

export const WebhookSettings = Type.Object(
  {
    allowHttp: Type.Boolean({ default: false, description: 'Allows http:// urls of webhooks, for development.' }),
    allowedNetworks: Type.String({
      default: '',
      description:
        'Addresses and networks that webhooks may reach although they are not public, separated by commas, such as 10.1.0.0/16. All other private, loopback and link-local addresses are refused.',
    }),
    timeoutMs: whole(10_000, 'Longest time of a POST, from the connect to the last byte of the answer.', 10),
    responseBytesMax: whole(65_536, 'Most bytes of an answer that are read.', 0),
    batchMax: Type.Integer({ minimum: 1, maximum: 1_000, default: 100, description: 'Most events in one POST.' }),
    postsMax: whole(64, 'Most pending POSTs of the process.'),
    postsPerProjectMax: whole(4, 'Most pending POSTs of one project; 1 while its webhook fails.'),
    pendingMax: whole(800, 'Most events of one project in memory.'),
    backoffMs: whole(1_000, 'Wait after a failure, with jitter; each further failure doubles it.'),
    backoffMaxMs: whole(5 * MINUTE_MS, 'Longest wait between two attempts, also if Retry-After is longer.'),
    pauseAfterMs: whole(HOUR_MS, 'A webhook that has failed for this time is paused.'),
    pausedRetryMs: whole(15 * MINUTE_MS, 'Time between two attempts of a paused webhook.'),
    retryForMs: whole(3 * DAY_MS, 'An older event is given up; less than `store.outcomeEventsAgeMs`.'),
    secretOverlapMs: whole(DAY_MS, 'Time for which a replaced secret still signs, in addition to the new one.', 0),
  },
  { additionalProperties: false, default: {}, description: 'Webhooks of app servers.' },
)
export type WebhookSettings = Static<typeof WebhookSettings>
