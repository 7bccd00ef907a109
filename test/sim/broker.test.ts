/** Tests of the simulated broker: one seed gives one run, and each fault has its described effect and no other. */
import t from 'tap'
import type { Delivery } from '../../src/nats/broker.js'
import { bytes, Collected, codeOf, text } from '../contract/suite.js'
import { SimBroker, type SimBrokerOptions } from './broker.js'

const WORK = { durable: 'route', ackWaitMs: 1_000, pendingMax: 50 }

/** Performs a small run with many faults, and gives its steps as text. */
async function stepsOfRun(seed: number): Promise<string> {
  const faults = { loseAnswer: 0.1, loseRequest: 0.1, loseAck: 0.2, redeliver: 0.1, dropCore: 0.2, overtake: 0.5 }
  const sim = new SimBroker({ seed, faults })
  const [a, b] = [sim.brokerFor('a'), sim.brokerFor('b')]
  const lines: string[] = []
  const write = (line: string) => lines.push(`${sim.clock.now()} ${line}`)
  b.bus.subscribe('rx.*', ({ subject }) => write(subject))
  sim.clock
    .advanceUntil(
      b.log('MESSAGES_1').consume(WORK, (delivery) => {
        write(`${delivery.sequence} x${delivery.deliveryCount}`)
        delivery.ack()
      }),
    )
    .catch(() => write('no consumer'))
  for (let i = 0; i < 20; i++) {
    a.bus.publish(`rx.${i}`, bytes(''))
    a.log('MESSAGES_1')
      .append(`msg.1.d.${i}`, bytes('x'), { messageId: `${i}` })
      .then(
        (sequence) => write(`stored ${sequence}`),
        (error) => write(String(error)),
      )
  }
  sim.clock.after(500, () => sim.restartServer(2_000, true))
  await sim.clock.advance(60_000)
  return lines.join('\n')
}

t.test('two runs of one seed are equal, runs of two seeds differ', async (t) => {
  const first = await stepsOfRun(7)
  t.equal(await stepsOfRun(7), first)
  t.not(await stepsOfRun(8), first)
})

const open = (options: SimBrokerOptions) => {
  const sim = new SimBroker({ seed: 3, ...options })
  return { sim, a: sim.brokerFor('a'), b: sim.brokerFor('b') }
}

t.test(
  'loseAnswer: the record is stored, the caller gets a time-out, and a repeat with the same message id finds it',
  async (t) => {
    const { sim, a } = open({ faults: { loseAnswer: 1 } })
    const append = () => a.log('MESSAGES_1').append('msg.1.d.1', bytes('x'), { messageId: '1' })
    t.equal((await sim.clock.advanceUntil(codeOf(append()))).code, 'timeout')
    sim.heal()
    t.equal(await sim.clock.advanceUntil(append()), 1)
    t.equal((await sim.clock.advanceUntil(a.log('MESSAGES_1').state())).messages, 1)
  },
)

t.test('loseRequest: the caller gets a time-out, and nothing is stored', async (t) => {
  const { sim, a } = open({ faults: { loseRequest: 1 } })
  t.equal((await sim.clock.advanceUntil(codeOf(a.log('MESSAGES_1').append('msg.1.d.1', bytes('x'))))).code, 'timeout')
  sim.heal()
  t.equal((await sim.clock.advanceUntil(a.log('MESSAGES_1').state())).messages, 0)
})

t.test('loseAck: the record is delivered again after its ack wait', async (t) => {
  const { sim, a } = open({ faults: { loseAck: 1 } })
  const got = new Collected<Delivery>()
  await sim.clock.advanceUntil(a.log('MESSAGES_1').consume(WORK, got.add))
  await sim.clock.advanceUntil(a.log('MESSAGES_1').append('msg.1.d.1', bytes('x')))
  t.ok(await sim.clock.until(() => got.all.length === 1, 100))
  got.all[0]?.ack()
  t.ok(await sim.clock.until(() => got.all.length === 2, 1_100))
  t.equal(got.all[1]?.deliveryCount, 2)
})

t.test(
  'a crashed process runs and receives nothing more, and its record is redelivered to another process',
  async (t) => {
    const { sim, a, b } = open({})
    const [first, second] = [new Collected<Delivery>(), new Collected<Delivery>()]
    await sim.clock.advanceUntil(a.log('MESSAGES_1').consume(WORK, first.add))
    a.bus.subscribe('tx.i.a', () => t.fail('a dead process received a message'))
    a.clock.after(10, () => t.fail('a timer of a dead process ran'))
    await sim.clock.advanceUntil(b.log('MESSAGES_1').append('msg.1.d.1', bytes('x')))
    await sim.clock.until(() => first.all.length === 1, 100)
    let settled = false
    const mark = () => {
      settled = true
    }
    a.log('MESSAGES_1').state().then(mark, mark)
    a.crash()
    await sim.clock.advanceUntil(b.log('MESSAGES_1').consume(WORK, second.add))
    t.ok(await sim.clock.until(() => second.all.length === 1, 5_000))
    t.equal(second.all[0]?.deliveryCount, 2)
    const answers = new Collected<boolean>()
    b.bus.subscribe('rx.b', ({ noResponders }) => answers.add(noResponders))
    b.bus.publish('tx.i.a', bytes(''), { reply: 'rx.b' })
    await sim.clock.advance(10_000)
    t.same(answers.all, [true], 'the subject of a dead process has no responders')
    t.notOk(settled, 'a request of the dead process is never settled')
  },
)

t.test('a partition of one second delays a message', async (t) => {
  const { sim, a, b } = open({})
  const received = new Collected<number>()
  b.bus.subscribe('rx.b', () => received.add(sim.clock.now()))
  const statuses: string[] = []
  a.onStatus((status) => statuses.push(status))
  await sim.clock.advance(100)
  a.partition()
  a.bus.publish('rx.b', bytes('1'))
  await sim.clock.advance(1_000)
  t.equal(received.all.length, 0)
  a.heal()
  t.ok(await sim.clock.until(() => received.all.length === 1, 100))
  t.same(statuses, [], 'the connection stays up')
})

t.test('a partition longer than silentMs ends the connection and loses the messages under way', async (t) => {
  const { sim, a, b } = open({})
  const received = new Collected<number>()
  b.bus.subscribe('rx.b', () => received.add(sim.clock.now()))
  const statuses: string[] = []
  a.onStatus((status) => statuses.push(status))
  await sim.clock.advance(100)
  a.partition()
  a.bus.publish('rx.b', bytes('2'))
  await sim.clock.advance(25_000)
  a.heal()
  await sim.clock.advance(5_000)
  t.equal(received.all.length, 0)
  t.same(statuses, ['disconnected', 'reconnected'])
})

t.test('a frozen process holds its timers and messages, and runs them in order when it thaws', async (t) => {
  const { sim, a, b } = open({})
  const order: string[] = []
  b.bus.subscribe('rx.b', ({ body }) => order.push(Buffer.from(body).toString()))
  await sim.clock.advance(100)
  b.freeze()
  b.clock.after(5, () => order.push('timer'))
  await sim.clock.advance(6)
  for (const word of ['1', '2']) a.bus.publish('rx.b', bytes(word))
  await sim.clock.advance(1_000)
  t.same(order, [])
  b.thaw()
  await sim.clock.advance(1)
  t.same(order, ['timer', '1', '2'])
})

t.test('a process frozen longer than silentMs loses its connection, and reconnects when it thaws', async (t) => {
  const { sim, b } = open({})
  const statuses: string[] = []
  b.onStatus((status) => statuses.push(status))
  b.freeze()
  await sim.clock.advance(30_000)
  t.same(statuses, [])
  b.thaw()
  await sim.clock.advance(5_000)
  t.same(statuses, ['disconnected', 'reconnected'])
})

t.test('staleRead: a direct read gives the old value, an authoritative read the new one', async (t) => {
  const { sim, a } = open({ faults: { staleRead: 1, staleMs: [1_000, 1_000] } })
  const table = a.table('SESSIONS')
  await sim.clock.advanceUntil(table.put('1.d', bytes('old')))
  await sim.clock.advance(2_000)
  await sim.clock.advanceUntil(table.put('1.d', bytes('new')))
  const valueAt = async (authoritative: boolean) =>
    Buffer.from((await sim.clock.advanceUntil(table.get('1.d', { authoritative })))?.value ?? []).toString()
  t.equal(await valueAt(true), 'new')
  t.equal(await valueAt(false), 'old')
})

t.test('undoDelete: a kill -9 brings back an acknowledged record, which is delivered again', async (t) => {
  const { sim, a } = open({ faults: { undoDelete: 1 } })
  const got = new Collected<Delivery>()
  await sim.clock.advanceUntil(
    a.log('MESSAGES_1').consume(WORK, (delivery) => {
      delivery.ack()
      got.add(delivery)
    }),
  )
  await sim.clock.advanceUntil(a.log('MESSAGES_1').append('msg.1.d.1', bytes('x')))
  await sim.clock.until(() => got.all.length === 1, 100)
  await sim.clock.advance(100)
  sim.restartServer(100, true)
  t.ok(await sim.clock.until(() => got.all.length === 2, 10_000))
  t.equal(got.all[1]?.deliveryCount, 1)
})

t.test('a wrong clock of one process leaves the other clocks right', async (t) => {
  const { sim, a, b } = open({})
  a.skewMs = 3_600_000
  t.equal(a.clock.now() - b.clock.now(), 3_600_000)
  t.equal(b.clock.now(), sim.clock.now())
})

t.test('records arrive in order when the connection is healed and the process thawed at once', async (t) => {
  const { sim, a, b } = open({ faults: { silentMs: 60_000, latencyMs: [1, 1] } })
  const seen: number[] = []
  await sim.clock.advanceUntil(a.log('BROADCAST').tail({ fromSequence: 1 }, ({ sequence }) => void seen.push(sequence)))
  const store = async (n: number) => {
    await sim.clock.advanceUntil(b.log('BROADCAST').append('broadcast.p.topic.t', bytes(`${n}`)))
    await sim.clock.advance(10)
  }
  a.freeze()
  await store(1)
  a.partition()
  await store(2)
  a.heal()
  a.thaw()
  // Record 3 travels while the held records 1 and 2 are let through.
  await store(3)
  t.same(seen, [1, 2, 3])
})

t.test(
  'a process that starts while the server is down is refused, and gets answers after the server is up',
  async (t) => {
    const { sim, b } = open({ faults: { reconnectMs: [100, 100] } })
    sim.server.down(false)
    const late = sim.brokerFor('late')
    t.notOk(late.connected())
    t.equal((await codeOf(late.bus.request('x', bytes(''), { timeoutMs: 10 }))).code, 'disconnected')
    sim.server.start()
    await sim.clock.advance(1_000)
    t.ok(late.connected())
    b.bus.subscribe('x', ({ reply }) => b.bus.publish(reply, bytes('here')))
    await sim.clock.advance(100)
    const answer = late.bus.request('x', bytes(''), { timeoutMs: 1_000 })
    t.equal(text(await sim.clock.advanceUntil(answer)), 'here')
  },
)
