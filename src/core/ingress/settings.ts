/** Settings of the ingress from NATS. */
import Type, { type Static } from 'typebox'

export const IngressSettings = Type.Object(
  {
    ackWaitMs: Type.Integer({
      default: 30_000,
      minimum: 1_000,
      description: 'A record that is not acknowledged within this time is delivered again.',
    }),
    pendingMax: Type.Integer({ default: 512, minimum: 1, description: 'Most unacknowledged records.' }),
    retryMs: Type.Integer({
      default: 1_000,
      minimum: 1,
      description: 'Wait before a record is delivered again after a temporary error.',
    }),
  },
  { additionalProperties: false, description: 'Messages published to NATS (`push.send.<project>`).' },
)
export type IngressSettings = Static<typeof IngressSettings>
