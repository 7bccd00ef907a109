import fc from 'fast-check'
import t from 'tap'
import { Close } from '../../protocol/close-codes.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { Backoff } from '../../src/device/connection/backoff.js'
import { deviceSettings } from '../../src/device/settings.js'
import { MachineModel } from './machine.js'
import { group, notify, welcome } from './scripted-server.js'

/** A counterexample prints as the list of what was done. */
type Step = { run: (model: MachineModel) => void; [fc.toStringMethod]: () => string }

const ids = fc.bigInt({ min: 1n, max: 12n })
const step = (does: string, run: (model: MachineModel) => void): Step => ({ run, [fc.toStringMethod]: () => does })

/** Where each kind of step may go wrong most, it stands more often. */
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.constant(step('open', (m) => m.openSocket())) },
  { weight: 2, arbitrary: fc.constant(step('welcome', (m) => m.receive(welcome({ serverTimeMs: m.now })))) },
  { weight: 6, arbitrary: fc.constant(step('connect', connect)) },
  { weight: 12, arbitrary: fc.array(ids, { minLength: 1, maxLength: 4 }).map(notifies) },
  { weight: 3, arbitrary: fc.tuple(ids, fc.nat(50)).map(([id, at]) => step(`group ${id}@${at}`, groups(id, at))) },
  { weight: 8, arbitrary: fc.constant(step('end turn', (m) => m.endTurn())) },
  { weight: 8, arbitrary: fc.constant(step('confirm', (m) => m.confirm())) },
  { weight: 8, arbitrary: fc.constant(step('hand over', (m) => m.handOver())) },
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 70_000 }).map((ms) => step(`+${ms}`, (m) => m.advance(ms))) },
  { weight: 1, arbitrary: fc.constant(step('clock back', (m) => m.advance(-3_600_000))) },
  { weight: 2, arbitrary: fc.constant(step('write fails', (m) => m.failWrite())) },
  { weight: 2, arbitrary: fc.constant(step('crash', (m) => m.crash())) },
  { weight: 3, arbitrary: fc.constant(step('pong', (m) => m.receive({ type: 'PONG' }))) },
  { weight: 1, arbitrary: fc.constant(step('empty', (m) => m.receiveEmpty())) },
  { weight: 3, arbitrary: fc.constantFrom(...comingBack()).map((c) => step(`closed ${c}`, (m) => m.loseSocket(c))) },
  { weight: 1, arbitrary: fc.constant(step('go away', (m) => m.receive(goaway))) },
  { weight: 1, arbitrary: fc.constant(step('stale', (m) => m.receive(stale))) },
  { weight: 1, arbitrary: fc.constant(step('caught up', (m) => m.receive(caughtUp))) },
)

const goaway: ServerFrame = { type: 'GOAWAY', reason: 'rebalance', afterMs: 100, jitterMs: 100, url: 'ws://b' }
const stale: ServerFrame = {
  type: 'ERROR',
  code: 'stale_connection',
  detail: '',
  request: 0,
  retryAfterMs: 50,
  connection: 900,
}
const caughtUp: ServerFrame = { type: 'CAUGHT_UP', cursor: { incarnation: 1n, sequence: 30, subscriptions: 1 } }

/** As far towards `live` as what is pending allows: only the oldest write is confirmed. */
function connect(model: MachineModel): void {
  if (model.machine.state === 'live') return
  model.advance(Math.min(model.machine.nextInMs(model.now), 600_000))
  model.confirm()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
}

function notifies(list: bigint[]): Step {
  return step(`notify ${list.join()}`, (m) => m.receive(...list.map((id) => notify(id))))
}

function groups(id: bigint, sequence: number) {
  // Ids of groups are others than those of one device.
  return (m: MachineModel) => m.receive(group(id + 1_000n, sequence))
}

function comingBack(): number[] {
  const codes = Object.values(Close).filter(({ next }) => next === 'reconnect' || next === 'raise')
  return [1006, 1000, ...codes.map(({ code }) => code)]
}

t.test('whatever happens: durable before acknowledged, shown once, and it always comes back', async () => {
  const settings = deviceSettings({ inboxMax: 6 })
  const runs = fc.property(fc.array(steps, { maxLength: 120 }), fc.nat(), (run, seed) => {
    const model = new MachineModel(sequence(seed), settings)
    for (const { run: act } of run) act(model)
    // The world calms down: the device must get back and take what is sent.
    model.settle()
    for (let n = 0; n < 50 && model.machine.state !== 'live'; n++) {
      connect(model)
      model.settle()
    }
    if (model.machine.state !== 'live') throw new Error(`stuck in ${model.machine.state}`)
    for (let id = 1n; id <= 12n; id++) {
      model.receive(notify(id))
      model.settle()
    }
    for (let id = 1n; id <= 12n; id++) if (!model.shown.has(id)) throw new Error(`${id} was never shown`)
  })
  fc.assert(runs, { numRuns: 1_000 })
})

t.test('keepalive: an empty message after silence, jittered; what is sent puts it off', async (t) => {
  const model = live(() => 0)
  model.advance(47_999)
  t.equal(model.pings, 0)
  model.advance(1)
  t.equal(model.pings, 1, 'four fifths of the interval at the earliest')
  model.receiveEmpty()
  model.advance(30_000)
  model.receive(notify(1n))
  model.settle()
  model.advance(30_000)
  t.equal(model.pings, 1, 'the ACK was a sign of life')
  model.advance(18_000)
  t.equal(model.pings, 2)
  model.advance(15_000)
  t.equal(model.machine.state, 'waiting', 'no answer')
})

t.test('a clock that is set back an hour puts nothing off', async (t) => {
  const model = live(() => 0)
  model.advance(-3_600_000)
  model.advance(48_000)
  t.equal(model.pings, 1)
})

t.test('an empty message is an answer: each to one that was sent, however late, and to none else', async (t) => {
  const unasked = live(() => 0)
  unasked.receiveEmpty()
  t.equal(unasked.machine.state, 'waiting')
  unasked.endTurn()
  t.match(unasked.events.map((event) => event.kind === 'error' && event.error.code).filter(Boolean), [
    'bad_server_bytes',
  ])

  const model = live(() => 0)
  for (const asked of [1, 2]) {
    model.advance(48_000)
    t.equal(model.pings, asked)
    // Anything is a sign of life, and the answer itself is still to come.
    model.receive({ type: 'PONG' })
  }
  model.receiveEmpty()
  model.receiveEmpty()
  t.equal(model.machine.state, 'live')
  model.advance(47_999)
  model.loseSocket(1006)
  model.advance(60_000)
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  t.equal(model.machine.state, 'live')
  model.receiveEmpty()
  t.equal(model.machine.state, 'waiting', 'what another connection was asked counts for nothing')
})

t.test('nobody listens: short waits for half a minute, then longer and longer; an answer ends that', async (t) => {
  const settings = { reconnectBaseMs: 1_000, reconnectCapMs: 60_000, retryAfterMsMax: 600_000 }
  const backoff = new Backoff(settings, () => 0.5)
  t.equal(backoff.next(0), 500, 'the connection that was lost')
  let now = 500
  let tries = 0
  for (; now < 30_500; tries++) {
    const next = backoff.next(now, false)
    t.equal(next - now, 2_000, 'neither longer nor at once')
    now = next
  }
  t.equal(tries, 15)
  t.equal(backoff.next(now, false) - now, 1_000, 'from here on as after any failure')
  t.equal(backoff.next(now, false) - now, 2_000)
  t.equal(backoff.next(now, false) - now, 4_000)
  t.equal(backoff.next(now, true) - now, 8_000, 'a server that refuses is no reason to hurry')
  backoff.retryAfter(now, 5_000)
  t.equal(backoff.next(now, false) - now, 5_000 + 500, 'a hint comes from somebody, and is the place in a line')
  backoff.retryAfter(now, 5_000)
  t.equal(backoff.next(now, true) - now, 5_000 + 500, 'nor does it become longer with the attempts')
  t.equal(backoff.next(now, true) - now, 16_000, 'which it leaves as they were')
})

t.test('full jitter: each attempt in 0..base*2^n, at most the cap; a stable connection begins anew', async (t) => {
  const settings = { reconnectBaseMs: 1_000, reconnectCapMs: 5_000, stableMs: 10_000 }
  const model = new MachineModel(() => 0.999, deviceSettings(settings))
  const waits: number[] = []
  model.settle()
  for (let attempt = 0; attempt < 5; attempt++) {
    // Answered, and cut: nobody there is another matter.
    model.openSocket()
    model.loseSocket(1006)
    waits.push(model.machine.nextInMs(model.now))
    model.settle()
    model.advance(waits.at(-1) ?? 0)
    model.settle()
  }
  t.same(waits, [999, 1_998, 3_996, 4_995, 4_995])
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.advance(9_000)
  model.loseSocket(1006)
  t.equal(model.machine.nextInMs(model.now), 4_995, 'not stable yet')
  model.settle()
  model.advance(5_000)
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.advance(10_000)
  model.loseSocket(1006)
  t.equal(model.machine.nextInMs(model.now), 999)
})

t.test('a listener that stops the device in the middle of a turn does not turn its writes round', async (t) => {
  const model = new MachineModel(() => 0)
  const order: string[] = []
  const { persist } = model
  model.persist = (changes) => {
    order.push(...changes.map(({ kind }) => kind))
    persist.call(model, changes)
  }
  model.event = ({ kind }) => {
    if (kind !== 'ready') return
    model.machine.done(model.now, 1n)
    model.machine.stop(model.now)
  }
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }), notify(1n))
  model.endTurn()
  t.same(order, ['ticket', 'message', 'done'])
})

t.test('a handshake that takes too long is given up', async (t) => {
  const model = new MachineModel(() => 0)
  model.settle()
  t.equal(model.machine.state, 'connecting')
  model.advance(10_000)
  t.equal(model.machine.state, 'waiting')
  model.advance(model.machine.nextInMs(model.now))
  model.settle()
  model.openSocket()
  t.equal(model.machine.state, 'greeting')
  model.advance(10_000)
  t.equal(model.machine.state, 'waiting')
})

t.test('a redirect that fails is forgotten', async (t) => {
  const urls: string[] = []
  const model = live(() => 0)
  model.open = (url?: string) => {
    urls.push(url ?? '')
  }
  model.receive({ type: 'GOAWAY', reason: 'rebalance', afterMs: 0, jitterMs: 1, url: 'ws://elsewhere' })
  for (let n = 0; n < 3; n++) {
    model.advance(60_000)
    model.settle()
    model.loseSocket(1006)
    model.settle()
  }
  t.same(urls, ['ws://elsewhere', 'ws://127.0.0.1'])
})

t.test(
  'a redirect holds until a connection to it is not greeted; a second GOAWAY takes the place of the first',
  async (t) => {
    const urls: string[] = []
    const model = live(() => 0)
    const { open } = model
    model.open = (url) => {
      urls.push(url ?? '')
      open.call(model, url)
    }
    const goTo = (url: string): ServerFrame => ({ type: 'GOAWAY', reason: 'rebalance', afterMs: 100, jitterMs: 1, url })
    const again = () => {
      model.advance(60_000)
      model.settle()
    }
    const greeted = () => {
      again()
      model.openSocket()
      model.receive(welcome({ serverTimeMs: model.now }))
    }
    model.receive(goTo('ws://a'), goTo('ws://b'), goTo('http://c'))
    model.advance(100)
    t.equal(model.machine.state, 'waiting')
    model.settle()
    model.receive()
    model.loseSocket(1006)
    greeted()
    model.receive(goTo('wss://d'))
    model.loseSocket(1001)
    greeted()
    model.loseSocket(1006)
    greeted()
    model.receive(goTo('ws://e'))
    model.loseSocket(1006)
    again()
    model.loseSocket(1006)
    again()
    t.same(urls, ['ws://127.0.0.1', 'wss://d', 'wss://d', 'wss://d', 'ws://127.0.0.1'])
  },
)

t.test('ACK frames are cut to the limit', async (t) => {
  const model = live(() => 0, { ackIdsMax: 10, inboxMax: 100 })
  model.receive(...Array.from({ length: 25 }, (_, n) => notify(BigInt(n + 1))))
  model.settle()
  const acks = model.sent.flatMap((frame) => (frame.type === 'ACK' ? [frame.ids.length] : []))
  t.same(acks, [10, 10, 5])
})

t.test('a full inbox stops reading, an emptier one reads again', async (t) => {
  const model = live(() => 0, { inboxMax: 4 })
  for (let id = 1n; id <= 10n; id++) {
    model.receive(notify(id))
    model.endTurn()
    model.confirm()
  }
  t.ok(model.paused)
  t.equal(model.memory.inbox.size, 4)
  model.advance(600_000)
  t.equal(model.machine.state, 'live', 'nobody is called half open while we do not read')
  model.handOver()
  t.notOk(model.paused)
})

function live(random: () => number, settings = {}): MachineModel {
  const model = new MachineModel(random, deviceSettings(settings))
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.settle()
  return model
}

/** Any sequence in [0, 1) that a seed gives again. */
function sequence(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
