/**
 * The session against a model of the world around it: a router that enqueues what is not acknowledged and then asks for a
 * catch-up, a device that acknowledges when it likes, a core that carries out settlements. Whatever the interleaving:
 *
 * - every message that the router got no final word of is in the queue, or in flight, or held: none is forgotten;
 * - when everything has come to rest, every message was sent, and the queue is empty;
 * - without a silent device, messages are sent in the order in which they were accepted (I3), and once;
 * - never more in flight than the window, and nothing before WELCOME.
 */
import fc from 'fast-check'
import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { refusals, SessionWorld } from './session-world.js'

class Model {
  readonly world = new SessionWorld()
  accepted = 0n
  /** With the router, in the order of acceptance; the first goes first. */
  readonly lane: bigint[] = []
  /** On their way to the worker; a control request does not overtake them. */
  readonly wire: bigint[] = []
  /** Live, without a report. */
  readonly live = new Set<bigint>()
  readonly acknowledged = new Set<bigint>()
  /** Sent to the device and not acknowledged by it yet. */
  readonly unacknowledged = new Set<bigint>()
  private seenSent = 0
  private seenReports = 0

  /** The router's and the device's part after each step. */
  settleDown(): void {
    const { world } = this
    const sent = world.notified()
    for (const id of sent.slice(this.seenSent)) this.unacknowledged.add(id)
    this.seenSent = sent.length
    const reports = world.reports.slice(this.seenReports)
    this.seenReports = world.reports.length
    for (const { id, report } of reports) {
      // What is queued already, for the device was silent, is not queued again.
      if (this.live.delete(id) && refusals.includes(report)) this.lane.push(id)
    }
    // A refusal can come after younger ones queued: the lane is in the order of acceptance.
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
  /** A router with nothing to enqueue sends live; else the message queues behind, as in its lane. */
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
  /** What was refused is queued, then the worker is asked: one after the other. */
  enqueue: ({ world, lane, wire }) => {
    const id = lane.shift()
    if (id === undefined) return
    world.enqueue(id)
    for (const sent of wire.splice(0)) world.deliver(sent)
    world.session.catchUp(world.now)
  },
  /** The router loses patience with what is in flight. */
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
  /** Of so little time that nobody loses patience. */
  tick: ({ world }) => {
    world.now.tick++
    world.session.sweep(world.now, 1_000_000)
    world.now.tick--
  },
  impatience: ({ world }) => {
    world.now.tick += 20
    world.session.sweep(world.now, 1_000_000)
  },
}

function run(model: Model, script: Step[], queuedBefore: number): void {
  const { world } = model
  for (let i = 0; i < queuedBefore; i++) world.enqueue(++model.accepted)
  world.session.deliver(
    { id: ++model.accepted, device: 'dev_1', expiresAtMs: 0, frame: Buffer.from(idBytes(model.accepted)) },
    'router',
    world.now,
  )
  model.live.add(model.accepted)
  if (world.sent.length > 0) throw new Error('something was sent before WELCOME')
  world.greet()
  model.settleDown()
  for (const step of script) {
    if (step === 'accept') model.accepted++
    steps[step](model)
    model.settleDown()
    if (world.session.unacknowledged > world.limits.window) throw new Error('more in flight than the window')
  }
  // To rest: everybody does what is left to do.
  for (let round = 0; round < 200; round++) {
    for (const step of ['arrive', 'enqueue', 'read', 'ack', 'carryOut', 'tick'] as const) {
      steps[step](model)
      model.settleDown()
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

t.test('no message is forgotten, whatever the interleaving', async (t) => {
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
        if (world.session.state !== 'live') throw new Error(`it came to rest as ${world.session.state}`)
        if (world.session.unacknowledged > 0) throw new Error('something is in flight for ever')
      },
    ),
    runs,
  )
  t.pass('held')
})

t.test('in order and once, where no device was silent', async (t) => {
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
  t.pass('held')
})

t.test('the end of a session answers for everything that waits for a report, once', async (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), fc.nat(4), (script, n) => {
      const model = new Model()
      const { world } = model
      for (let i = 0; i < n; i++) world.enqueue(++model.accepted)
      world.greet()
      model.settleDown()
      for (const step of script) {
        if (step === 'accept') model.accepted++
        steps[step](model)
        model.settleDown()
      }
      world.session.end()
      world.session.end()
      for (const id of model.live) {
        if (model.wire.includes(id)) continue
        const closed = world.reportsOf(id).filter((report) => report === Report.CLOSED)
        if (closed.length !== 1) throw new Error(`message ${id} was told as closed ${closed.length} times`)
      }
    }),
    runs,
  )
  t.pass('held')
})
