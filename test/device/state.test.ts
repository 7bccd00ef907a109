import fc from 'fast-check'
import t from 'tap'
import { advanceCursor, type Change, caughtUpCursor, DeviceState, newInGap } from '../../src/device/state/state.js'
import { decodeChange, encodeChange } from '../../src/device/state/state-codec.js'

const cursor = { incarnation: 7n, sequence: 100, subscriptions: 3 }

function message(id: bigint, cursorSequence = 0): Change {
  return {
    kind: 'message',
    message: {
      id,
      registration: 1,
      group: null,
      expiresAtMs: 0,
      priority: 'normal',
      collapseKey: '',
      title: 'a',
      message: 'b',
      data: new Uint8Array([0x80]),
    },
    forgetAtMs: 1_000,
    cursorSequence,
  }
}

t.test('a group message moves the cursor forward and never back', async (t) => {
  t.same(advanceCursor(cursor, 101), { ...cursor, sequence: 101 })
  t.same(advanceCursor(cursor, 50), cursor, 'the catch-up of a new topic starts at a lower sequence')
  t.same(advanceCursor(cursor, 0), cursor)
})

t.test('CAUGHT_UP without a stored cursor gives the cursor of the server', async (t) => {
  t.same(caughtUpCursor(null, cursor), cursor)
})

t.test('CAUGHT_UP with the same version gives the cursor with the higher sequence', async (t) => {
  t.same(caughtUpCursor(cursor, { ...cursor, sequence: 90 }), cursor)
  t.same(caughtUpCursor(cursor, { ...cursor, sequence: 120 }).sequence, 120)
})

t.test('CAUGHT_UP with another version or log gives the cursor of the server', async (t) => {
  const added = { ...cursor, sequence: 90, subscriptions: 4 }
  t.same(caughtUpCursor(cursor, added), added, 'the stored sequence would skip messages of the new topic')
  const reset = { incarnation: 8n, sequence: 2, subscriptions: 3 }
  t.same(caughtUpCursor(cursor, reset), reset)
})

t.test('a GAP counts the drops that no earlier GAP of the queue counted', async (t) => {
  t.equal(newInGap(null, { queue: 1n, count: 5 }), 5)
  t.equal(newInGap({ queue: 1n, count: 5 }, { queue: 1n, count: 5 }), 0, 'the same mark')
  t.equal(newInGap({ queue: 1n, count: 5 }, { queue: 1n, count: 8 }), 3, 'a higher count')
  t.equal(newInGap({ queue: 1n, count: 5 }, { queue: 2n, count: 2 }), 2, 'another queue')
  t.equal(newInGap({ queue: 1n, count: 5 }, { queue: 1n, count: 3 }), 0, 'a lower count of an older frame')
})

t.test('the counts of repeated and lost GAP frames add up to the number of drops', async () => {
  const steps = fc.array(fc.record({ drops: fc.nat(5), newQueue: fc.boolean(), heard: fc.boolean() }))
  fc.assert(
    fc.property(steps, (run) => {
      const state = new DeviceState(10)
      let queue = 1n
      let count = 0
      let told = 0
      let heardOf = 0
      for (const step of run) {
        // A queue ends only after the device knows of all its drops.
        if (step.newQueue && heardOf === count) {
          queue++
          count = 0
          heardOf = 0
        }
        count += step.drops
        if (!step.heard) continue
        const before = told
        told += newInGap(state.gap, { queue, count })
        state.apply({ kind: 'gap', mark: { queue, count } })
        heardOf += told - before
        if (heardOf !== count) return false
      }
      return true
    }),
  )
})

t.test('the oldest ids above seenMax are forgotten, except those in the inbox', async (t) => {
  const state = new DeviceState(3)
  for (const id of [1n, 2n, 3n, 4n]) state.apply(message(id))
  t.equal(state.seenCount, 3)
  t.ok(state.hasSeen(1n), 'id 1 is in the inbox')
  state.apply({ kind: 'done', id: 1n })
  t.notOk(state.hasSeen(1n))
  t.ok(state.hasSeen(4n))
})

t.test('sweep forgets an id at its forgetAtMs and not before', async (t) => {
  const state = new DeviceState(3)
  for (const id of [2n, 3n, 4n]) state.apply(message(id))
  for (const id of [2n, 3n, 4n]) state.apply({ kind: 'done', id })
  state.sweep(999)
  t.ok(state.hasSeen(4n))
  state.sweep(1_000)
  t.equal(state.seenCount, 0)
})

t.test('the end of a registration removes its topics, and a new number keeps them', async (t) => {
  const state = new DeviceState(10)
  const a = { number: 1, application: 'a', user: '', registrationId: 'ra', project: 'p' }
  const b = { number: 2, application: 'b', user: '', registrationId: 'rb', project: 'p' }
  for (const registration of [a, b]) state.apply({ kind: 'registered', registration })
  for (const application of ['a', 'b']) {
    state.apply({ kind: 'topic', topic: { application, user: '', topic: 'news' }, subscribed: true })
  }
  state.apply({ kind: 'ended', application: 'a', user: '' })
  t.same(state.topicList(), [{ application: 'b', user: '', topic: 'news' }])
  t.equal(state.registrationOf('a', ''), null)
  state.apply({ kind: 'registered', registration: { ...b, number: 1 } })
  t.same([...state.registrations.keys()], [1], 'a server that lost its tables assigns numbers anew')
  t.same(state.topicList(), [{ application: 'b', user: '', topic: 'news' }])
})

t.test('a new token keeps the state, and a new deviceId keeps only the ids of messages', async (t) => {
  const state = new DeviceState(10)
  const identity = { deviceId: 'dev_1', token: 't', expiresAtMs: 0, url: '' }
  const registration = { number: 1, application: 'a', user: '', registrationId: 'ra', project: 'p' }
  const before: Change[] = [
    { kind: 'identity', identity },
    { kind: 'connection', connection: 9 },
    { kind: 'registered', registration },
    { kind: 'topic', topic: { application: 'a', user: '', topic: 'news' }, subscribed: true },
    { kind: 'subscriptions', version: 4 },
    { kind: 'cursor', cursor: { incarnation: 1n, sequence: 5, subscriptions: 4 } },
    { kind: 'gap', mark: { queue: 1n, count: 2 } },
    { kind: 'seen', id: 7n, forgetAtMs: 10, cursorSequence: 0 },
  ]
  for (const change of before) state.apply(change)
  state.apply({ kind: 'identity', identity: { ...identity, token: 'renewed' } })
  t.equal(state.snapshot().length, before.length)
  const other = { ...identity, deviceId: 'dev_2' }
  state.apply({ kind: 'identity', identity: other })
  t.same(state.snapshot(), [{ kind: 'identity', identity: other }, before.at(-1)])
})

const id = fc.bigInt({ min: 1n, max: (1n << 63n) - 1n })
const uint = fc.nat()
const name = fc.oneof(fc.constantFrom('a', 'b'), fc.string({ unit: 'grapheme', maxLength: 8 }))
const bytes = fc.uint8Array({ maxLength: 20 })
const group = fc.record({
  kind: fc.constantFrom('app' as const, 'topic' as const, 'user' as const),
  name,
  project: name,
  sequence: uint,
  registrations: fc.array(uint, { maxLength: 3 }),
})
const stored = fc.record({
  id,
  registration: uint,
  group: fc.option(group),
  expiresAtMs: uint,
  priority: fc.constantFrom('normal' as const, 'high' as const, 'low' as const),
  collapseKey: name,
  title: name,
  message: name,
  data: bytes,
})
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    kind: fc.constant('identity' as const),
    identity: fc.record({ deviceId: name, token: name, expiresAtMs: uint, url: name }),
  }),
  fc.record({ kind: fc.constant('ticket' as const), ticket: fc.option(fc.record({ bytes, untilMs: uint })) }),
  fc.record({ kind: fc.constant('connection' as const), connection: fc.integer({ min: 1 }) }),
  fc.record({ kind: fc.constant('message' as const), message: stored, forgetAtMs: uint, cursorSequence: uint }),
  fc.record({ kind: fc.constant('seen' as const), id, forgetAtMs: uint, cursorSequence: uint }),
  fc.record({ kind: fc.constant('done' as const), id }),
  fc.record({
    kind: fc.constant('cursor' as const),
    cursor: fc.record({
      incarnation: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      sequence: uint,
      subscriptions: uint,
    }),
  }),
  fc.record({ kind: fc.constant('gap' as const), mark: fc.record({ queue: id, count: uint }) }),
  fc.record({
    kind: fc.constant('registered' as const),
    registration: fc.record({ number: fc.nat(5), application: name, user: name, registrationId: name, project: name }),
  }),
  fc.record({ kind: fc.constant('ended' as const), application: name, user: name }),
  fc.record({
    kind: fc.constant('topic' as const),
    topic: fc.record({ application: name, user: name, topic: name }),
    subscribed: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('subscriptions' as const), version: uint }),
  fc.record({ kind: fc.constant('clock' as const), serverAheadMs: fc.integer() }),
)

t.test('a decoded change equals the encoded one', async (t) => {
  fc.assert(
    fc.property(change, (c) => t.same(decodeChange(encodeChange(c)), c)),
    { numRuns: 300 },
  )
})

t.test('a snapshot that is encoded, decoded and applied gives the same state', async (t) => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const state = new DeviceState(1_000)
      const replayed = new DeviceState(1_000)
      for (const c of changes) state.apply(c)
      for (const c of state.snapshot()) replayed.apply(decodeChange(encodeChange(c)))
      t.same(sorted(replayed.snapshot()), sorted(state.snapshot()))
    }),
  )
})

/** Only the order of messages in the inbox has a meaning. */
function sorted(changes: Change[]): string[] {
  const lines = changes.map(encodeChange)
  return [...lines.filter((l) => l.includes('"message"')), ...lines.filter((l) => !l.includes('"message"')).sort()]
}
