/** Tests of the connection machine of a device: a model-based run with random steps, then its single rules. */
import fc from 'fast-check'
import t from 'tap'
import { Close } from '../../protocol/close-codes.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { Backoff } from '../../src/device/connection/backoff.js'
import { deviceSettings } from '../../src/device/settings.js'
import { MachineModel } from './machine.js'
import { group, notify, welcome } from './scripted-server.js'

/** fast-check prints a counterexample as the list of these names. */
type Step = { run: (model: MachineModel) => void; [fc.toStringMethod]: () => string }

const ids = fc.bigInt({ min: 1n, max: 12n })
const step = (name: string, run: (model: MachineModel) => void): Step => ({ run, [fc.toStringMethod]: () => name })

/** The weights make the steps frequent in which most errors are likely. */
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
  {
    weight: 3,
    arbitrary: fc.constantFrom(...reconnectingCodes()).map((c) => step(`closed ${c}`, (m) => m.loseSocket(c))),
  },
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

/** Brings the machine towards `live`. One write is confirmed, so that others may still be pending. */
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
  // The ids of group messages must differ from those of unicast messages.
  return (m: MachineModel) => m.receive(group(id + 1_000n, sequence))
}

/** The close codes after which a device reconnects. */
function reconnectingCodes(): number[] {
  const codes = Object.values(Close).filter(({ next }) => next === 'reconnect' || next === 'raise')
  return [1006, 1000, ...codes.map(({ code }) => code)]
}

t.test('under random steps each push is durable before its ACK and shown once, and the device reconnects', async () => {
  const settings = deviceSettings({ inboxMax: 6 })
  const runs = fc.property(fc.array(steps, { maxLength: 120 }), fc.nat(), (run, seed) => {
    const model = new MachineModel(sequence(seed), settings)
    for (const { run: act } of run) act(model)
    // Without further faults the device must connect and show each push that is sent.
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

t.test('a keepalive is sent after four fifths of the interval in silence at the earliest', async (t) => {
  const model = live(() => 0)
  model.advance(47_999)
  t.equal(model.pings, 0)
  model.advance(1)
  t.equal(model.pings, 1)
})

t.test('a frame that the device sends postpones the next keepalive', async (t) => {
  const model = live(() => 0)
  model.advance(48_000)
  model.receiveEmpty()
  model.advance(30_000)
  model.receive(notify(1n))
  model.settle()
  model.advance(30_000)
  t.equal(model.pings, 1, 'the ACK was sent 30 seconds ago')
  model.advance(18_000)
  t.equal(model.pings, 2)
})

t.test('a keepalive without an answer within pongTimeoutMs ends the connection', async (t) => {
  const model = live(() => 0)
  model.advance(48_000)
  t.equal(model.pings, 1)
  model.advance(14_999)
  t.equal(model.machine.state, 'live')
  model.advance(1)
  t.equal(model.machine.state, 'waiting')
})

t.test('a clock that is set back by an hour does not postpone the keepalive', async (t) => {
  const model = live(() => 0)
  model.advance(-3_600_000)
  model.advance(48_000)
  t.equal(model.pings, 1)
})

t.test('an empty message without a keepalive before is a protocol error', async (t) => {
  const model = live(() => 0)
  model.receiveEmpty()
  t.equal(model.machine.state, 'waiting')
  model.endTurn()
  t.match(model.events.map((event) => event.kind === 'error' && event.error.code).filter(Boolean), ['bad_server_bytes'])
})

t.test('two empty messages answer two keepalives, even when other frames came before them', async (t) => {
  const model = live(() => 0)
  for (const pings of [1, 2]) {
    model.advance(48_000)
    t.equal(model.pings, pings)
    // The PONG is a sign of life, but the empty answer is still to come.
    model.receive({ type: 'PONG' })
  }
  model.receiveEmpty()
  model.receiveEmpty()
  t.equal(model.machine.state, 'live')
})

t.test('a keepalive of an earlier connection does not permit an empty message on the next one', async (t) => {
  const model = live(() => 0)
  model.advance(48_000)
  t.equal(model.pings, 1)
  model.loseSocket(1006)
  model.advance(60_000)
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  t.equal(model.machine.state, 'live')
  model.receiveEmpty()
  t.equal(model.machine.state, 'waiting')
})

const BACKOFF = { reconnectBaseMs: 1_000, reconnectCapMs: 60_000, retryAfterMsMax: 600_000 }

t.test('without a listening server the delay stays at 2 s for half a minute, and then doubles', async (t) => {
  const backoff = new Backoff(BACKOFF, () => 0.5)
  t.equal(backoff.next(0), 500, 'after the loss of the connection')
  let now = 500
  let attempts = 0
  for (; now < 30_500; attempts++) {
    const next = backoff.next(now, false)
    t.equal(next - now, 2_000)
    now = next
  }
  t.equal(attempts, 15)
  t.equal(backoff.next(now, false) - now, 1_000)
  t.equal(backoff.next(now, false) - now, 2_000)
  t.equal(backoff.next(now, false) - now, 4_000)
  t.equal(backoff.next(now, true) - now, 8_000, 'a refusal continues the doubling')
})

t.test('a Retry-After hint sets the delay of one attempt and leaves the doubling as it was', async (t) => {
  const backoff = new Backoff(BACKOFF, () => 0.5)
  t.equal(backoff.next(0, true), 500)
  t.equal(backoff.next(0, true), 1_000)
  backoff.retryAfter(0, 5_000)
  t.equal(backoff.next(0, false), 5_000 + 500, 'also when no server listens')
  backoff.retryAfter(0, 5_000)
  t.equal(backoff.next(0, true), 5_000 + 500, 'the delay does not grow with the attempts')
  t.equal(backoff.next(0, true), 2_000)
})

/** Attempts that the server answers and cuts. Gives the delay after each; `random` is 0.999. */
function delaysAfterRefusals(model: MachineModel, attempts: number): number[] {
  const delays: number[] = []
  model.settle()
  for (let attempt = 0; attempt < attempts; attempt++) {
    model.openSocket()
    model.loseSocket(1006)
    const delayMs = model.machine.nextInMs(model.now)
    delays.push(delayMs)
    model.settle()
    model.advance(delayMs)
    model.settle()
  }
  return delays
}

const JITTER = { reconnectBaseMs: 1_000, reconnectCapMs: 5_000, stableMs: 10_000 }

t.test('the delay of attempt n has full jitter in 0 to base * 2^n, at most the cap', async (t) => {
  const model = new MachineModel(() => 0.999, deviceSettings(JITTER))
  t.same(delaysAfterRefusals(model, 5), [999, 1_998, 3_996, 4_995, 4_995])
})

t.test('a connection shorter than stableMs does not reset the delay', async (t) => {
  const model = new MachineModel(() => 0.999, deviceSettings(JITTER))
  delaysAfterRefusals(model, 5)
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.advance(9_000)
  model.loseSocket(1006)
  t.equal(model.machine.nextInMs(model.now), 4_995)
})

t.test('a connection of stableMs resets the delay', async (t) => {
  const model = new MachineModel(() => 0.999, deviceSettings(JITTER))
  delaysAfterRefusals(model, 5)
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.advance(10_000)
  model.loseSocket(1006)
  t.equal(model.machine.nextInMs(model.now), 999)
})

t.test('a listener that stops the device during a turn does not change the order of the writes', async (t) => {
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

t.test('a socket that does not open within connectTimeoutMs is given up', async (t) => {
  const model = new MachineModel(() => 0)
  model.settle()
  t.equal(model.machine.state, 'connecting')
  model.advance(10_000)
  t.equal(model.machine.state, 'waiting')
})

t.test('a HELLO without WELCOME within welcomeTimeoutMs ends the connection', async (t) => {
  const model = new MachineModel(() => 0)
  model.settle()
  model.openSocket()
  t.equal(model.machine.state, 'greeting')
  model.advance(10_000)
  t.equal(model.machine.state, 'waiting')
})

const goawayTo = (url: string): ServerFrame => ({ type: 'GOAWAY', reason: 'rebalance', afterMs: 100, jitterMs: 1, url })

/** Records the URLs that the model dials from now on. */
function recordUrls(model: MachineModel): string[] {
  const urls: string[] = []
  const { open } = model
  model.open = (url) => {
    urls.push(url ?? '')
    open.call(model, url)
  }
  return urls
}

function dial(model: MachineModel): void {
  model.advance(60_000)
  model.settle()
}

function dialAndGreet(model: MachineModel): void {
  dial(model)
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
}

t.test('after a failed attempt at the URL of GOAWAY the device dials its own URL', async (t) => {
  const model = live(() => 0)
  const urls = recordUrls(model)
  model.receive(goawayTo('ws://elsewhere'))
  for (let n = 0; n < 3; n++) {
    dial(model)
    model.loseSocket(1006)
    model.settle()
  }
  t.same(urls, ['ws://elsewhere', 'ws://127.0.0.1'])
})

t.test('of several GOAWAY the last counts, and its URL is ignored if it is no WebSocket URL', async (t) => {
  const model = live(() => 0)
  const urls = recordUrls(model)
  model.receive(goawayTo('ws://a'), goawayTo('ws://b'), goawayTo('http://c'))
  model.advance(100)
  t.equal(model.machine.state, 'waiting')
  model.settle()
  model.loseSocket(1006)
  dialAndGreet(model)
  t.same(urls, ['ws://127.0.0.1'])
})

t.test('the URL of GOAWAY is dialled again after each greeted connection to it', async (t) => {
  const model = live(() => 0)
  const urls = recordUrls(model)
  model.receive(goawayTo('wss://d'))
  model.loseSocket(1001)
  dialAndGreet(model)
  model.loseSocket(1006)
  dialAndGreet(model)
  t.same(urls, ['wss://d', 'wss://d'])
})

t.test('a ws:// URL in GOAWAY is ignored on a wss:// connection', async (t) => {
  const model = live(() => 0)
  const urls = recordUrls(model)
  model.receive(goawayTo('wss://d'))
  model.loseSocket(1001)
  dialAndGreet(model)
  model.receive(goawayTo('ws://e'))
  model.loseSocket(1006)
  dial(model)
  t.same(urls, ['wss://d', 'wss://d'])
  model.loseSocket(1006)
  dial(model)
  t.equal(urls.at(-1), 'ws://127.0.0.1', 'after an attempt without greeting')
})

t.test('25 acknowledgements of one turn are sent in ACK frames of at most ackIdsMax ids', async (t) => {
  const model = live(() => 0, { ackIdsMax: 10, inboxMax: 100 })
  model.receive(...Array.from({ length: 25 }, (_, n) => notify(BigInt(n + 1))))
  model.settle()
  const acks = model.sent.flatMap((frame) => (frame.type === 'ACK' ? [frame.ids.length] : []))
  t.same(acks, [10, 10, 5])
})

t.test('the machine stops reading at a full inbox, and continues after a hand-over', async (t) => {
  const model = live(() => 0, { inboxMax: 4 })
  for (let id = 1n; id <= 10n; id++) {
    model.receive(notify(id))
    model.endTurn()
    model.confirm()
  }
  t.ok(model.paused)
  t.equal(model.memory.inbox.size, 4)
  model.advance(600_000)
  t.equal(model.machine.state, 'live', 'while the machine does not read, silence does not end the connection')
  model.handOver()
  t.notOk(model.paused)
})

/** A model whose machine is connected and at rest. */
function live(random: () => number, settings = {}): MachineModel {
  const model = new MachineModel(random, deviceSettings(settings))
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.settle()
  return model
}

/** A pseudo-random sequence in [0, 1), the same for a seed. */
function sequence(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
