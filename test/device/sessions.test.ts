/** The device library must behave as in the session transcripts of protocol/vectors/sessions.json. */
import t from 'tap'
import { readSessions, type Session } from '../protocol/sessions.js'
import { MachineModel } from './machine.js'
import { changesOf, Replay } from './session-replay.js'

for (const session of readSessions()) {
  t.test(`${session.name}: the device sends, hands over and stores the same as in the transcript`, async (t) => {
    const model = new MachineModel(() => 0, undefined, changesOf(session))
    const replay = new Replay(t, model)
    for (const step of session.steps) replay.step(step)
    model.settle()
    t.strictSame(replay.handedOver, session.handedOver, 'handed over')
    t.strictSame(replay.gaps, session.gaps, 'reported gaps')
    t.equal(model.machine.state === 'stopped', session.stops)
    t.strictSame(leftOf(model), session.left, 'state')
    t.strictSame(replay.unexpected(), [], 'frames that are not in the transcript')
  })
}

/** The part of the durable state that sessions name. */
function leftOf({ disk }: MachineModel): Session['left'] {
  const { connection, cursor, gap, subscriptions } = disk
  return {
    connection,
    cursor: cursor && { ...cursor, incarnation: String(cursor.incarnation) },
    gap: gap && { ...gap, queue: String(gap.queue) },
    subscriptions: subscriptions < 0 ? null : subscriptions,
  }
}
