import t from 'tap'
import { encodeNotify } from '../../../protocol/encode.js'
import { Report } from '../../../protocol/envelope.js'
import { registrationOfNotify } from '../../../protocol/notify-registration.js'
import { SessionWorld, welcome } from './session-world.js'

const cursor = { incarnation: 1n, sequence: 7, subscriptions: 1 }

t.test('live messages that arrive before WELCOME are held and sent after it', async (t) => {
  const world = new SessionWorld()
  world.deliver(1n)
  world.deliver(2n)
  t.same(world.sent, [])
  world.greet()
  t.same(world.sent, ['WELCOME', 1n, 2n])
})

t.test('one message too many to hold refuses all held messages, oldest first, until the next catch-up', async (t) => {
  const world = new SessionWorld()
  for (const id of [1n, 2n, 3n, 4n]) world.deliver(id)
  const report = Report.WINDOW_FULL
  t.same(
    world.reports,
    [1n, 2n, 3n, 4n].map((id) => ({ id, report })),
  )
  world.greet()
  t.same(world.sent, ['WELCOME'])
  world.session.catchUp(world.now)
  world.answerRead()
  world.deliver(5n)
  t.same(world.sent, ['WELCOME', 5n])
})

t.test('a catch-up request during a read makes the session read again before it sends live messages', async (t) => {
  const world = new SessionWorld()
  world.session.claimed(1)
  world.enqueue(1n)
  const seen = world.entries()
  world.enqueue(2n)
  world.session.catchUp(world.now)
  world.deliver(3n)
  world.session.welcome(welcome, seen, world.now)
  t.same(world.sent, ['WELCOME', 1n])
  t.equal(world.session.state, 'behind')
  world.answerRead()
  t.same(world.sent, ['WELCOME', 1n, 2n, 3n])
  t.equal(world.session.state, 'live')
})

t.test('after a failed read the session stays behind, and the sweep reads again', async (t) => {
  const world = new SessionWorld()
  world.greet()
  world.session.catchUp(world.now)
  world.reads.shift()
  world.session.queueReadFailed()
  t.equal(world.session.state, 'behind')
  world.deliver(1n)
  t.same(world.notified(), [], 'a live message is held')
  world.session.sweep({ ms: 0, steadyMs: 0, tick: 2 }, 100)
  t.equal(world.reads.length, 1)
  world.answerRead()
  t.same(world.notified(), [1n])
})

t.test('a message with two records in the queue is sent once and settled twice', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n)
  world.enqueue(1n)
  world.greet()
  t.same(world.notified(), [1n])
  world.ack(1n)
  t.same(world.settles, [
    { id: 1n, sequence: 1 },
    { id: 1n, sequence: 2 },
  ])
})

t.test('a message that waits for its settlement is not sent again, and its second record is settled', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n)
  world.greet()
  world.ack(1n)
  world.enqueue(1n)
  world.session.catchUp(world.now)
  world.answerRead()
  t.same(world.notified(), [1n])
  t.match(world.settles.at(-1), { id: 1n, sequence: 2 })
})

t.test('a message whose settlement found no room is read and delivered again', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n)
  world.greet()
  world.hasRoomToSettle = false
  world.ack(1n)
  world.hasRoomToSettle = true
  world.session.sweep({ ms: 0, steadyMs: 0, tick: 2 }, 100)
  world.answerRead()
  t.same(world.notified(), [1n, 1n])
  world.ack(1n)
  t.same(world.settles, [{ id: 1n, sequence: 1 }])
})

t.test('a queue longer than the window is read in parts', async (t) => {
  const world = new SessionWorld()
  for (let id = 1n; id <= 7n; id++) world.enqueue(id)
  world.greet()
  t.same(world.notified(), [1n, 2n, 3n])
  t.equal(world.reads.length, 0, 'no read while the window is full')
  world.ack(1n, 2n)
  world.carryOut()
  world.answerRead()
  t.same(world.notified(), [1n, 2n, 3n, 4n, 5n])
  world.ack(3n, 4n, 5n)
  world.carryOut()
  world.answerRead()
  t.same(world.notified().slice(-2), [6n, 7n])
})

t.test('CAUGHT_UP is sent when the queue is read, if the groups were caught up before', async (t) => {
  const world = new SessionWorld()
  for (let id = 1n; id <= 4n; id++) world.enqueue(id)
  world.greet()
  world.session.groupsCaughtUp(cursor)
  t.notOk(world.sent.includes('CAUGHT_UP'))
  world.ack(1n)
  world.answerRead()
  t.equal(world.sent.at(-1), 'CAUGHT_UP')
})

t.test('CAUGHT_UP is sent when the groups are caught up, if the queue was read before', async (t) => {
  const world = new SessionWorld()
  world.greet()
  t.equal(world.session.state, 'live')
  world.session.groupsCaughtUp(cursor)
  t.match(world.frames.at(-1), { type: 'CAUGHT_UP', cursor })
})

t.test('an expired message of the queue is not sent', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n, { expiresAtMs: world.now.ms - 1 })
  world.enqueue(2n)
  world.greet()
  t.same(world.notified(), [2n])
})

t.test('a live message that expires now is not sent, and reported as expired', async (t) => {
  const world = new SessionWorld()
  world.greet()
  world.deliver(3n, world.now.ms)
  t.same(world.notified(), [])
  t.same(world.reportsOf(3n), [Report.EXPIRED])
})

t.test('a session without a frame for longer than the idle time is closed as idle', async (t) => {
  const world = new SessionWorld()
  world.greet()
  world.session.sweep({ ms: 0, steadyMs: 0, tick: 101 }, 100)
  t.equal(world.closedWith, null)
  world.session.sweep({ ms: 0, steadyMs: 0, tick: 102 }, 100)
  t.equal(world.closedWith, 'idle')
})

t.test('one PING more than framesPerSecond closes as rate_limited', async (t) => {
  const world = new SessionWorld()
  world.greet()
  for (let i = 0; i < world.limits.framesPerSecond; i++) world.session.frame({ type: 'PING' }, world.now)
  t.equal(world.closedWith, null)
  world.session.frame({ type: 'PING' }, world.now)
  t.equal(world.closedWith, 'rate_limited')
})

t.test('an empty message before WELCOME closes as unexpected_frame', async (t) => {
  const world = new SessionWorld()
  world.session.emptyMessage(world.now)
  t.equal(world.closedWith, 'unexpected_frame')
})

t.test('empty messages are answered, and one more than framesPerSecond closes as rate_limited', async (t) => {
  const world = new SessionWorld()
  world.greet()
  for (let i = 0; i < world.limits.framesPerSecond; i++) world.session.emptyMessage(world.now)
  t.same(world.sent, ['WELCOME', ...Array.from({ length: world.limits.framesPerSecond }, () => 'empty')])
  world.session.emptyMessage(world.now)
  t.equal(world.closedWith, 'rate_limited')
})

t.test('acknowledgements of messages in flight cost no rate; others close as rate_limited', async (t) => {
  const world = new SessionWorld()
  world.greet()
  for (let id = 1n; id <= 1_000n; id++) {
    world.deliver(id)
    world.ack(id)
  }
  t.equal(world.closedWith, null)
  for (let i = 0; i <= 200; i++) world.ack(5n)
  t.equal(world.closedWith, 'rate_limited')
})

t.test('each unknown id of an ACK counts: after an ACK with 2,000 of them a PING closes as rate_limited', async (t) => {
  const world = new SessionWorld()
  world.greet()
  const unknownIds = Array.from({ length: 2_000 }, (_, i) => BigInt(i))
  world.session.frame({ type: 'ACK', ids: unknownIds }, world.now)
  t.equal(world.closedWith, null)
  world.session.frame({ type: 'PING' }, world.now)
  t.equal(world.closedWith, 'rate_limited')
})

/** A session with the requests 1 and 2 in progress, which is the limit. */
function withTwoRequests() {
  const world = new SessionWorld()
  world.greet()
  for (const request of [1, 2]) {
    world.session.frame({ type: 'REGISTER', request, application: 'a', userToken: '' }, world.now)
  }
  return world
}

t.test('a request beyond the limit of requests in progress is answered with overloaded', async (t) => {
  const world = withTwoRequests()
  world.session.frame({ type: 'REGISTER', request: 3, application: 'a', userToken: '' }, world.now)
  t.same(world.requests, [1, 2])
  t.match(world.frames.at(-1), { type: 'ERROR', code: 'overloaded', request: 3 })
})

t.test('the reply to a request makes room for another', async (t) => {
  const world = withTwoRequests()
  world.session.replied({ type: 'DONE', request: 1, subscriptions: 2 })
  world.session.frame({ type: 'SUBSCRIBE', request: 4, registration: 1, topic: 't' }, world.now)
  t.same(world.requests, [1, 2, 4])
})

t.test('an ended session sends no reply, and reports a live message as not here', async (t) => {
  const world = withTwoRequests()
  world.session.end()
  world.session.replied({ type: 'DONE', request: 2, subscriptions: 2 })
  t.notMatch(world.frames.at(-1), { request: 2 })
  world.deliver(9n)
  t.same(world.reportsOf(9n), [Report.NOT_HERE])
})

t.test('a message for an ended registration is reported as ended; one for a newer registration is sent', async (t) => {
  const world = new SessionWorld()
  const frameOf = (id: bigint, registration: number) => encodeNotify({ ...plain, id, registration })
  const deliver = (id: bigint, registration: number) =>
    world.session.deliver(
      { id, device: 'dev', expiresAtMs: 0, frame: frameOf(id, registration) },
      Infinity,
      'router',
      world.now,
    )
  const registration = {
    project: 'p',
    application: 'a',
    user: '',
    channel: 'native',
    createdAtMs: 0,
    since: 0,
  } as const
  const live = (number: number) => ({ ...registration, number, addedVersion: 1 })
  deliver(1n, 1)
  world.session.registered({ nextNumber: 4, registrations: [live(2), live(3)] })
  world.greet()
  t.same(world.reports, [{ id: 1n, report: Report.ENDED }], 'a message held before the device record was read')
  deliver(2n, 2)
  deliver(3n, 1)
  deliver(4n, 4)
  t.equal(world.sent.length, 3, 'WELCOME and the messages 2 and 4')
  t.same(world.reports.at(-1), { id: 3n, report: Report.ENDED })
  world.session.registered({ nextNumber: 4, registrations: [live(1), live(2), live(3)] })
  deliver(5n, 1)
  t.equal(world.sent.length, 4)
})

t.test('registrationOfNotify reads the number of NOTIFY frames of any length, and 0 of damaged ones', async (t) => {
  for (const registration of [1, 127, 128, 70_000, 0xffff_ffff]) {
    for (const title of ['', 'x'.repeat(300), 'x'.repeat(20_000)]) {
      t.equal(registrationOfNotify(encodeNotify({ ...plain, id: 2n ** 63n, registration, title })), registration)
    }
  }
  for (const frame of [Uint8Array.of(), Uint8Array.of(1, 7), Uint8Array.of(3, 0x82, 0x09, 1)]) {
    t.equal(registrationOfNotify(frame), 0)
  }
})

t.test('a session is closed as token_expired at the end of its token', async (t) => {
  const world = new SessionWorld()
  world.greet()
  world.session.tokenEndsAtMs = world.now.ms + 10
  world.session.sweep({ ...world.now, ms: world.now.ms + 9 }, 100)
  t.equal(world.closedWith, null)
  world.session.sweep({ ...world.now, ms: world.now.ms + 10 }, 100)
  t.equal(world.closedWith, 'token_expired')
})

const plain = {
  ...{ expiresAtSeconds: 0, collapseKey: '', title: '', message: '', data: new Uint8Array() },
  priority: 'normal' as const,
}
