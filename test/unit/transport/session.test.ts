import t from 'tap'
import { encodeNotify } from '../../../protocol/encode.js'
import { Report } from '../../../protocol/envelope.js'
import { registrationOfNotify } from '../../../protocol/notify-registration.js'
import { SessionWorld, welcome } from './session-world.js'

const cursor = { incarnation: 1n, sequence: 7, subscriptions: 1 }

t.test('live items of a session that is not welcomed yet are held', async (t) => {
  const world = new SessionWorld()
  world.deliver(1n)
  world.deliver(2n)
  t.same(world.sent, [])
  world.greet()
  t.same(world.sent, ['WELCOME', 1n, 2n])
})

t.test('too many to hold: all of them are refused, oldest first, and all that follow', async (t) => {
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

t.test('a mark during the read: read again before anything goes live', async (t) => {
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

t.test('a read that failed is asked for again by the sweep', async (t) => {
  const world = new SessionWorld()
  world.greet()
  world.session.catchUp(world.now)
  world.reads.shift()
  world.session.queueReadFailed()
  t.equal(world.session.state, 'behind')
  world.deliver(1n)
  t.same(world.notified(), [], 'not knowing is not being live')
  world.session.sweep({ ms: 0, tick: 2 }, 100)
  t.equal(world.reads.length, 1)
  world.answerRead()
  t.same(world.notified(), [1n])
})

t.test('a message that stands twice in the queue is sent once and settled twice', async (t) => {
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

t.test('what waits for its settlement is not sent again, but its other copy is settled', async (t) => {
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

t.test('a settlement that found no room: the record is read and delivered again', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n)
  world.greet()
  world.hasRoomToSettle = false
  world.ack(1n)
  world.hasRoomToSettle = true
  world.session.sweep({ ms: 0, tick: 2 }, 100)
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
  t.equal(world.reads.length, 0, 'not while the window is full')
  world.ack(1n, 2n)
  world.carryOut()
  world.answerRead()
  t.same(world.notified(), [1n, 2n, 3n, 4n, 5n])
  world.ack(3n, 4n, 5n)
  world.carryOut()
  world.answerRead()
  t.same(world.notified().slice(-2), [6n, 7n])
})

t.test('CAUGHT_UP waits for both, groups and queue', async (t) => {
  const groupsFirst = new SessionWorld()
  for (let id = 1n; id <= 4n; id++) groupsFirst.enqueue(id)
  groupsFirst.greet()
  groupsFirst.session.groupsCaughtUp(cursor)
  t.notOk(groupsFirst.sent.includes('CAUGHT_UP'))
  groupsFirst.ack(1n)
  groupsFirst.answerRead()
  t.equal(groupsFirst.sent.at(-1), 'CAUGHT_UP')
  const queueFirst = new SessionWorld()
  queueFirst.greet()
  t.equal(queueFirst.session.state, 'live')
  queueFirst.session.groupsCaughtUp(cursor)
  t.match(queueFirst.frames.at(-1), { type: 'CAUGHT_UP', cursor })
})

t.test('expiry', async (t) => {
  const world = new SessionWorld()
  world.enqueue(1n, { expiresAtMs: 999 })
  world.enqueue(2n)
  world.greet()
  t.same(world.notified(), [2n])
  world.deliver(3n, 1_000)
  t.same(world.reportsOf(3n), [Report.EXPIRED])
})

t.test('silence and chatter', async (t) => {
  const idle = new SessionWorld()
  idle.greet()
  idle.session.sweep({ ms: 0, tick: 101 }, 100)
  t.equal(idle.closedWith, null)
  idle.session.sweep({ ms: 0, tick: 102 }, 100)
  t.equal(idle.closedWith, 'idle')

  const chatty = new SessionWorld()
  chatty.greet()
  for (let i = 0; i < 10; i++) chatty.session.frame({ type: 'PING' }, chatty.now)
  t.equal(chatty.closedWith, null)
  chatty.session.frame({ type: 'PING' }, chatty.now)
  t.equal(chatty.closedWith, 'rate_limited')

  const quiet = new SessionWorld()
  quiet.session.emptyMessage(quiet.now)
  t.equal(quiet.closedWith, 'unexpected_frame', 'an empty message before WELCOME is a PING before WELCOME')
  const pinging = new SessionWorld()
  pinging.greet()
  for (let i = 0; i < 10; i++) pinging.session.emptyMessage(pinging.now)
  t.same(pinging.sent, ['WELCOME', ...Array.from({ length: 10 }, () => 'empty')])
  pinging.session.emptyMessage(pinging.now)
  t.equal(pinging.closedWith, 'rate_limited', 'an empty message counts as much as PING')

  const busy = new SessionWorld()
  busy.greet()
  for (let id = 1n; id <= 1_000n; id++) {
    busy.deliver(id)
    busy.ack(id)
  }
  t.equal(busy.closedWith, null, 'an acknowledgement that we waited for costs nothing')
  for (let i = 0; i <= 200; i++) busy.ack(5n)
  t.equal(busy.closedWith, 'rate_limited', 'one that nobody waited for does')

  const hoarse = new SessionWorld()
  hoarse.greet()
  const foreign = Array.from({ length: 2_000 }, (_, i) => BigInt(i))
  hoarse.session.frame({ type: 'ACK', ids: foreign }, hoarse.now)
  t.equal(hoarse.closedWith, null)
  hoarse.session.frame({ type: 'PING' }, hoarse.now)
  t.equal(hoarse.closedWith, 'rate_limited', 'so does each id of a list')
})

t.test('requests: bounded, answered, and nothing after the end', async (t) => {
  const world = new SessionWorld()
  world.greet()
  for (const request of [1, 2, 3]) {
    world.session.frame({ type: 'REGISTER', request, application: 'a', userToken: '' }, world.now)
  }
  t.same(world.requests, [1, 2])
  t.match(world.frames.at(-1), { type: 'ERROR', code: 'overloaded', request: 3 })
  world.session.replied({ type: 'DONE', request: 1, subscriptions: 2 })
  world.session.frame({ type: 'SUBSCRIBE', request: 4, registration: 1, topic: 't' }, world.now)
  t.same(world.requests, [1, 2, 4])
  world.session.end()
  world.session.replied({ type: 'DONE', request: 4, subscriptions: 2 })
  t.notMatch(world.frames.at(-1), { request: 4 })
  world.deliver(9n)
  t.same(world.reportsOf(9n), [Report.NOT_HERE])
})

t.test('what is for a registration that has ended is told so; one that is newer than the record is sent', async (t) => {
  const world = new SessionWorld()
  const frameOf = (id: bigint, registration: number) => encodeNotify({ ...plain, id, registration })
  const deliver = (id: bigint, registration: number) =>
    world.session.deliver({ id, device: 'dev', expiresAtMs: 0, frame: frameOf(id, registration) }, 'router', world.now)
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
  t.same(world.reports, [{ id: 1n, report: Report.ENDED }], 'also what was held before the record was read')
  deliver(2n, 2)
  deliver(3n, 1)
  deliver(4n, 4)
  t.equal(world.sent.length, 3, 'WELCOME and two pushes')
  t.same(world.reports.at(-1), { id: 3n, report: Report.ENDED })
  world.session.registered({ nextNumber: 4, registrations: [live(1), live(2), live(3)] })
  deliver(5n, 1)
  t.equal(world.sent.length, 4)
})

t.test('the registration number is read in a frame of any length', async (t) => {
  for (const registration of [1, 127, 128, 70_000, 0xffff_ffff]) {
    for (const title of ['', 'x'.repeat(300), 'x'.repeat(20_000)]) {
      t.equal(registrationOfNotify(encodeNotify({ ...plain, id: 2n ** 63n, registration, title })), registration)
    }
  }
  for (const frame of [Uint8Array.of(), Uint8Array.of(1, 7), Uint8Array.of(3, 0x82, 0x09, 1)]) {
    t.equal(registrationOfNotify(frame), 0)
  }
})

t.test('a session ends when its token does', async (t) => {
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
