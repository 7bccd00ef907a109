/** An event for app servers: the result of one target, as JSON. docs/send/events.md is its specification. */
import Type, { type Static } from 'typebox'
import { type AcceptedEvent, FINAL_KINDS, type FinalEvent, type FinalKind } from '../../store/events.js'

export const OutcomeEvent = Type.Object({
  v: Type.Literal(1, { description: 'Version of this format. Added fields do not raise it.' }),
  id: Type.String({
    description: 'The same in each attempt to send the event, so that a receiver can recognise duplicates.',
  }),
  kind: Type.Enum([...FINAL_KINDS], { description: 'The outcome of the target.' }),
  projectId: Type.String(),
  applicationId: Type.String(),
  messageId: Type.String({ description: 'The id in the answer to sending.' }),
  target: Type.Union([Type.String(), Type.Null()], {
    description: 'registrationId of the target; null if a core that crashed during a cancel left it unknown.',
  }),
  time: Type.String({ format: 'date-time', description: 'The time of the outcome.' }),
  reason: Type.Union([Type.String(), Type.Null()], {
    description: 'The reason in one word; null: there is no other reason than the kind.',
  }),
})
export type OutcomeEvent = Static<typeof OutcomeEvent>

/** A target ends once, so its id and the kind identify the event, even if it is published again. */
export const outcomeEventId = (target: bigint, kind: FinalKind) => `${target}.${kind}`

/** @param accepted null: the `accepted` event is missing. */
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

/** Throws SyntaxError if the record is not an event. */
export function decodeOutcomeEvent(body: Uint8Array): OutcomeEvent {
  return JSON.parse(Buffer.from(body).toString('utf8')) as OutcomeEvent
}
