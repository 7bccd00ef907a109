/**
 * The session against a model of its surroundings: a router that enqueues unacknowledged messages and then asks for a
 * catch-up, a device that acknowledges at any time, and a core that carries out settlements. For each interleaving:
 *
 * - a message without a final report is queued, in flight or held: the session forgets none;
 * - when no step is left to do, each message was sent, and the queue is empty;
 * - if no device was silent, messages are sent once, and in the order in which they were accepted (I3);
 * - no more messages are in flight than the window allows, and nothing is sent before WELCOME.
 */
import fc from 'fast-check'
import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { refusals, SessionWorld } from './session-world.js'

class Model {
  readonly world = new SessionWorld()
  accepted = 0n
  /** Messages that the router has to enqueue, in the order of acceptance. */
  readonly lane: bigint[] = []
  /** Messages on their way to the worker; a control request does not overtake them. */
  readonly wire: bigint[] = []
  /** Messages sent live, for which the router has no report yet. */
  readonly live = new Set<bigint>()
  readonly acknowledged = new Set<bigint>()
  /** Sent to the device and not acknowledged by it yet. */
  readonly unacknowledged = new Set<bigint>()
  private seenSent = 0
  private seenReports = 0

  /** Passes new frames to the device and new reports to the router. Runs after each step. */
  passOn(): void {
    const { world } = this
    const sent = world.notified()
    for (const id of sent.slice(this.seenSent)) this.unacknowledged.add(id)
    this.seenSent = sent.length
    const reports = world.reports.slice(this.seenReports)
    this.seenReports = world.reports.length
    for (const { id, report } of reports) {
      // A message that the router has already enqueued, because the device was silent, is not enqueued again.
      if (this.live.delete(id) && refusals.includes(report)) this.lane.push(id)
    }
    // A refusal can come after those of younger messages.
    this.lane.sort((a, b) => (a < b ? -1 : 1))
  }
}

type Step =
  | 'accept'
  | 'arrive'
  | 'fail'
  | 'enqueue'
  | 'silence'
  | 'ack'
  | 'ackLast'
  | 'read'
  | 'carryOut'
  | 'tick'
  | 'impatience'

const steps: Record<Step, (model: Model) => void> = {
  /** The router sends live if it has nothing to enqueue. Otherwise the message waits in its lane. */
  accept: ({ wire, lane, live, accepted }) => {
    if (lane.length > 0) lane.push(accepted)
    else {
      live.add(accepted)
      wire.push(accepted)
    }
  },
  arrive: ({ world, wire }) => {
    const id = wire.shift()
    if (id !== undefined) world.deliver(id)
  },
  /** The router enqueues a refused message, then asks the worker to catch up. */
  enqueue: ({ world, lane, wire }) => {
    const id = lane.shift()
    if (id === undefined) return
    world.enqueue(id)
    for (const sent of wire.splice(0)) world.deliver(sent)
    world.session.catchUp(world.now)
  },
  /** The router enqueues a message in flight, because its device is silent. */
  silence: (model) => {
    const [id] = model.live
    if (id === undefined) return
    model.live.delete(id)
    model.world.enqueue(id)
    model.world.session.catchUp(model.world.now)
  },
  ack: (model) => {
    const [id] = model.unacknowledged
    if (id === undefined) return
    model.unacknowledged.delete(id)
    model.acknowledged.add(id)
    model.world.ack(id)
  },
  ackLast: (model) => {
    const id = [...model.unacknowledged].at(-1)
    if (id === undefined) return
    model.unacknowledged.delete(id)
    model.acknowledged.add(id)
    model.world.ack(id)
  },
  read: ({ world }) => world.answerRead(),
  fail: ({ world }) => {
    if (world.reads.shift()) world.session.queueReadFailed()
  },
  carryOut: ({ world }) => world.carryOut(),
  /** A sweep after so little time that nothing times out. */
  tick: ({ world }) => {
    world.now.tick++
    world.session.sweep(world.now, 1_000_000)
    world.now.tick--
  },
  /** A sweep after so much time that messages in flight time out. */
  impatience: ({ world }) => {
    world.now.tick += 20
    world.session.sweep(world.now, 1_000_000)
  },
}

/** Connects a device with `queuedBefore` queued messages and one live one, takes the steps, and lets everything end. */
function run(model: Model, script: Step[], queuedBefore: number): void {
  const { world } = model
  for (let i = 0; i < queuedBefore; i++) world.enqueue(++model.accepted)
  world.session.deliver(
    { id: ++model.accepted, device: 'dev_1', expiresAtMs: 0, frame: Buffer.from(idBytes(model.accepted)) },
    Number.POSITIVE_INFINITY,
    'router',
    world.now,
  )
  model.live.add(model.accepted)
  if (world.sent.length > 0) throw new Error('something was sent before WELCOME')
  world.greet()
  model.passOn()
  for (const step of script) {
    if (step === 'accept') model.accepted++
    steps[step](model)
    model.passOn()
    if (world.session.unacknowledged > world.limits.window) throw new Error('more in flight than the window')
  }
  // All parts finish their work.
  for (let round = 0; round < 200; round++) {
    for (const step of ['arrive', 'enqueue', 'read', 'ack', 'carryOut', 'tick'] as const) {
      steps[step](model)
      model.passOn()
    }
  }
}

function idBytes(id: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(id)
  return bytes
}

const inOrder: Step[] = [
  'accept',
  'accept',
  'arrive',
  'enqueue',
  'ack',
  'ack',
  'ackLast',
  'read',
  'fail',
  'carryOut',
  'tick',
]
const anyStep = fc.constantFrom<Step>(...inOrder, 'impatience', 'silence')
const runs = { numRuns: Number(process.env.MODEL_RUNS ?? 1_500) }

t.test('in each interleaving, each message is acknowledged, and session and queue end empty', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(anyStep, fc.constant<Step>('silence')), { maxLength: 80 }),
      fc.nat(6),
      (script, n) => {
        const model = new Model()
        run(model, script, n)
        const { world } = model
        for (let id = 1n; id <= model.accepted; id++) {
          if (!model.acknowledged.has(id))
            throw new Error(`message ${id} of ${model.accepted} never reached the device`)
        }
        if (world.queued.length > 0) throw new Error(`left in the queue: ${world.queued.map(({ id }) => id)}`)
        if (world.session.state !== 'live') throw new Error(`the session ended in the state ${world.session.state}`)
        if (world.session.unacknowledged > 0) throw new Error('a message is in flight for ever')
      },
    ),
    runs,
  )
  t.pass('no interleaving failed')
})

t.test('if no device is silent, each message is sent once and in the order of acceptance', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...inOrder), { maxLength: 80 }), fc.nat(6), (script, n) => {
      const model = new Model()
      run(model, script, n)
      const sent = model.world.notified()
      for (let i = 1; i < sent.length; i++) {
        if ((sent[i] as bigint) <= (sent[i - 1] as bigint)) throw new Error(`out of order: ${sent}`)
      }
    }),
    runs,
  )
  t.pass('no interleaving failed')
})

t.test('the end of a session reports each unreported live message as closed, once', async (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), fc.nat(4), (script, n) => {
      const model = new Model()
      const { world } = model
      for (let i = 0; i < n; i++) world.enqueue(++model.accepted)
      world.greet()
      model.passOn()
      for (const step of script) {
        if (step === 'accept') model.accepted++
        steps[step](model)
        model.passOn()
      }
      world.session.end()
      world.session.end()
      for (const id of model.live) {
        if (model.wire.includes(id)) continue
        const closed = world.reportsOf(id).filter((report) => report === Report.CLOSED)
        if (closed.length !== 1) throw new Error(`message ${id} was reported as closed ${closed.length} times`)
      }
    }),
    runs,
  )
  t.pass('no interleaving failed')
})
