/** An event for app servers: the result of one target, as JSON. docs/send/events.md is its specification. */
import Type, { type Static } from 'typebox'
import { type AcceptedEvent, FINAL_KINDS, type FinalEvent, type FinalKind } from '../../store/events.js'

export const OutcomeEvent = Type.Object({
  v: Type.Literal(1, { description: 'Version of this form. What is added later does not raise it.' }),
  id: Type.String({ description: 'The same whenever this event is told again: whoever keeps it tells duplicates.' }),
  kind: Type.Enum([...FINAL_KINDS], { description: 'What became of the target.' }),
  projectId: Type.String(),
  applicationId: Type.String(),
  messageId: Type.String({ description: 'Id of the message, as it was answered when it was sent.' }),
  target: Type.Union([Type.String(), Type.Null()], {
    description: 'registrationId of the target; null where a core that died in the middle of a cancel left it unknown.',
  }),
  time: Type.String({ format: 'date-time', description: 'When it ended.' }),
  reason: Type.Union([Type.String(), Type.Null()], { description: 'Why, in one word; null: the kind says it.' }),
})
export type OutcomeEvent = Static<typeof OutcomeEvent>

/** A target ends once, so its id and the kind name the event, whoever tells it how often. */
export const outcomeEventId = (target: bigint, kind: FinalKind) => `${target}.${kind}`

/** @param accepted null: not known. */
export function outcomeEventOf(
  target: bigint,
  end: FinalEvent,
  accepted: AcceptedEvent | null,
  registrationIdOf: (accepted: AcceptedEvent) => string,
): OutcomeEvent {
  return {
    v: 1,
    id: outcomeEventId(target, end.kind),
    kind: end.kind,
    projectId: end.project,
    applicationId: end.application,
    messageId: String(accepted?.parent ?? target),
    target: accepted && registrationIdOf(accepted),
    time: new Date(end.atMs).toISOString(),
    reason: end.reason || null,
  }
}

export const encodeOutcomeEvent = (event: OutcomeEvent): Uint8Array => Buffer.from(JSON.stringify(event))

/** Throws SyntaxError where the record is none of ours. */
export function decodeOutcomeEvent(body: Uint8Array): OutcomeEvent {
  return JSON.parse(Buffer.from(body).toString('utf8')) as OutcomeEvent
}
