/** Settings of NATS ingress. */
import Type, { type Static } from 'typebox'

export const IngressSettings = Type.Object(
  {
    ackWaitMs: Type.Integer({ default: 30_000, minimum: 1_000, description: 'A record not done by then comes again.' }),
    pendingMax: Type.Integer({ default: 512, minimum: 1, description: 'Most records under way at once.' }),
    retryMs: Type.Integer({ default: 1_000, minimum: 1, description: 'Pause after the store was away.' }),
  },
  { additionalProperties: false, description: 'Messages published to NATS (`push.send.<project>`).' },
)
export type IngressSettings = Static<typeof IngressSettings>
