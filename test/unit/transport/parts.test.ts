import t from 'tap'
import {
  decodeRxBatch,
  decodeSettleRequest,
  encodeSettleReply,
  Report,
  type SettleItem,
} from '../../../protocol/envelope.js'
import { rxSubject, SETTLE_SUBJECT } from '../../../protocol/subjects.js'
import { Keyring } from '../../../src/keyring.js'
import { Admission } from '../../../src/transport/admission/admission.js'
import { Throughput } from '../../../src/transport/admission/throughput.js'
import { TicketBox } from '../../../src/transport/admission/ticket.js'
import { Outbox } from '../../../src/transport/delivery/outbox.js'
import { Settlements } from '../../../src/transport/delivery/settlements.js'
import { Uplink } from '../../../src/transport/delivery/uplink.js'
import { Limiter } from '../../../src/transport/limiter.js'
import { WorkerMetrics } from '../../../src/transport/metrics.js'
import { Registry } from '../../../src/transport/session/registry.js'
import type { Session } from '../../../src/transport/session/session.js'
import type { SendResult } from '../../../src/transport/socket/socket.js'
import { SimBroker } from '../../sim/broker.js'

t.test('tickets', async (t) => {
  const keyring = Keyring.generate(0)
  const ticket = {
    ...{ device: 'dev_0123456789abcdefghij', instance: 'eu-1', worker: '0-abc', connection: 2 ** 52 + 1 },
    ...{ revision: 77, subscriptions: 9, expiresAtMs: 5_000_000, tokenExpiresAtMs: 9_000_000 },
    ...{ tokenIssuedAtMs: 2_000_000, fleet: 'fleet_0123456789zz' },
  }
  const before = new TicketBox(keyring.transportKeys().tickets)
  const sealed = before.seal(ticket)
  t.ok(sealed.length < 84, `${sealed.length} bytes`)
  t.same(before.open(sealed, 4_999_999), ticket)
  t.equal(before.open(sealed, 5_000_000), null, 'expired')
  for (let i = 0; i < sealed.length; i++) {
    const changed = Uint8Array.from(sealed)
    changed[i] = (changed[i] ?? 0) ^ 0x40
    t.equal(before.open(changed, 0), null, `byte ${i}`)
    t.equal(before.open(sealed.subarray(0, i), 0), null)
  }
  for (const device of [
    'dev_00000000000000000000',
    'dev_zzzzzzzzzzzzzzzzzzzz',
    'dev_0000000000z000000001',
    'till-7',
    'dev_',
  ]) {
    const other = { ...ticket, device, connection: Number.MAX_SAFE_INTEGER, revision: 0 }
    t.same(before.open(before.seal(other), 0), other, device)
  }
  for (const fleet of ['fleet_000000000000', 'fleet_zzzzzzzzzzzz', 'fleet', '']) {
    t.same(before.open(before.seal({ ...ticket, fleet }), 0), { ...ticket, fleet }, fleet)
  }
  t.same(before.open(sealed, 0), ticket, 'what was sealed stays as it is')
  const old = keyring.kids('ticket')[0]?.kid ?? ''
  keyring.rotate('ticket', 1)
  t.same(new TicketBox(keyring.transportKeys().tickets).open(sealed, 0), ticket, 'rotated: both are taken')
  keyring.retire('ticket', old)
  t.equal(new TicketBox(keyring.transportKeys().tickets).open(sealed, 0), null, 'retired')
})

t.test('admission', async (t) => {
  let [lagMs, greeting, handshaking] = [0, 0, 0]
  const limits = { connectionsMax: 4, connectionsPerAddressMax: 2, handshakesPerSecondMax: 3 }
  const load = { lagMs: () => lagMs, greeting: () => greeting, handshaking: () => handshaking }
  const throughput = new Throughput(100)
  const door = new Admission({ ...limits, handshakesInFlightMax: 150, loopLagMsMax: 100 }, load, throughput)
  const admission = {
    ...{ admit: (address: string, tick: number) => door.admit(address, { ms: 0, tick }) },
    ...{ opened: (address: string) => door.opened(address), closed: (address: string) => door.closed(address) },
  }
  t.equal(admission.admit('a', 1), null)
  admission.opened('a')
  admission.opened('a')
  t.match(admission.admit('a', 1), { reason: 'address', retryAfterSeconds: Number }, 'too many of one address')
  t.equal(admission.admit('b', 1), null)
  t.equal(admission.admit('b', 1), null)
  t.match(admission.admit('b', 1), { reason: 'rate', retryAfterSeconds: Number }, 'too many in a second')
  t.equal(admission.admit('b', 2), null)
  admission.closed('a')
  t.equal(admission.admit('a', 3), null)
  door.descriptorsCounted(5)
  t.match(
    admission.admit('b', 4),
    { reason: 'full', retryAfterSeconds: Number },
    'descriptors that are no connections count',
  )
  door.descriptorsCounted(1)
  t.equal(admission.admit('b', 5), null)
  lagMs = 101
  t.match(admission.admit('b', 5), { reason: 'lag', retryAfterSeconds: Number }, 'too late with the work of others')
  lagMs = 100
  t.equal(admission.admit('b', 5), null)
  handshaking = 60
  greeting = 40
  t.match(admission.admit('b', 6), { reason: 'crowd', retryAfterSeconds: Number }, 'enough on their way for a second')
  greeting = 39
  t.equal(admission.admit('b', 6), null)
  door.drain()
  t.match(admission.admit('b', 6), { reason: 'draining', retryAfterSeconds: Number })
})

const session = (device: string): Session => ({ device, outgoing: null }) as unknown as Session

t.test('registry: a late close cannot evict a newer connection', async (t) => {
  const registry = new Registry()
  const [a, b, c] = ['a', 'b', 'c'].map(session) as [Session, Session, Session]
  for (const one of [a, b, c]) registry.add(one)
  const newer = session('a')
  registry.add(newer)
  t.equal(registry.remove(a), false)
  t.equal(registry.get('a'), newer)
  t.equal(registry.size, 3)
  const met = new Set<string>()
  const rounds = registry.rounds()
  rounds.walk(2, ({ device }) => met.add(device))
  rounds.walk(2, ({ device }) => met.add(device))
  t.equal(met.size, 3, 'a walk meets everyone')
  rounds.walk(10, (one) => registry.remove(one))
  t.equal(registry.size, 0, 'also when those it meets leave')
})

t.test('outbox: joined in order, never longer than a device must take', async (t) => {
  const messages: number[][] = []
  let result: SendResult = 'sent'
  const socket = {
    send: (bytes: Uint8Array) => {
      messages.push([bytes.length, bytes[0] ?? 0, bytes.at(-1) ?? 0])
      return result
    },
  }
  let dropped = 0
  const outbox = new Outbox(() => dropped++)
  const one = { ...session('a'), socket } as unknown as Session
  const frame = (length: number, fill: number) => new Uint8Array(length).fill(fill)
  outbox.add(one, frame(10, 1))
  outbox.flush()
  for (let i = 2; i <= 5; i++) outbox.add(one, frame(30_000, i))
  outbox.flush()
  outbox.flush()
  t.same(messages, [
    [10, 1, 1],
    [60_000, 2, 3],
    [60_000, 4, 5],
  ])
  result = 'dropped'
  outbox.add(one, frame(40_000, 6))
  outbox.add(one, frame(40_000, 7))
  outbox.flush()
  t.equal(dropped, 1)
  t.equal(messages.length, 4, 'after a loss nothing more is sent')
})

t.test('limiter', async (t) => {
  const limiter = new Limiter(2)
  let running = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setImmediate(resolve))
    running--
  }
  await Promise.all(Array.from({ length: 7 }, () => limiter.run(work)))
  await t.rejects(limiter.run(() => Promise.reject(new Error('no'))))
  await limiter.run(work)
  t.equal(most, 2)
})

function settlementsOf(settlesMax = 100) {
  const sim = new SimBroker()
  const [worker, core] = [sim.brokerFor('worker'), sim.brokerFor('core')]
  const metrics = new WorkerMetrics()
  const settings = { instance: 'i', worker: 'w', settlesMax, settleRepeatMs: 1_000, timeoutMs: 2_000 }
  const givenUp: string[] = []
  const onGivenUp = (device: string) => void givenUp.push(device)
  const settlements = new Settlements(worker.bus, worker.clock, metrics, { ...settings, onError: () => {}, onGivenUp })
  return { sim, core, metrics, settlements, givenUp }
}

const item = (id: bigint, queueSequence: number): SettleItem => ({
  ...{ id, device: 'd', project: 'p', application: 'a', queueSequence, atMs: 1 },
})

t.test('uplink: one batch for each router and tick', async (t) => {
  const sim = new SimBroker()
  const [worker, core] = [sim.brokerFor('worker'), sim.brokerFor('core')]
  const options = { instance: 'i', worker: 'w', timeoutMs: 2_000, onError: () => {} }
  const up = new Uplink(worker.bus, worker.clock, options)
  const batches: bigint[][] = []
  core.bus.subscribe(rxSubject('r1'), ({ body }) => batches.push(decodeRxBatch(body).items.map(({ id }) => id)))
  await sim.clock.advance(100)
  for (const id of [1n, 2n, 3n]) up.report(id === 2n ? 'r2' : 'r1', id, 'd', Report.ACKED, 1)
  await sim.clock.advance(100)
  up.report('r1', 4n, 'd', Report.CLOSED, 1)
  await sim.clock.advance(100)
  t.same(batches, [[1n, 3n], [4n]])
})

t.test('settlements are repeated until they are confirmed', async (t) => {
  const { sim, core, metrics, settlements } = settlementsOf()
  const asked: number[][] = []
  let confirms = (sequences: number[]) => sequences.filter((sequence) => sequence !== 11)
  core.bus.subscribe(SETTLE_SUBJECT, ({ body, reply }) => {
    const sequences = decodeSettleRequest(body).items.map(({ queueSequence }) => queueSequence)
    asked.push(sequences)
    core.bus.publish(reply, encodeSettleReply(confirms(sequences)))
  })
  await sim.clock.advance(100)
  settlements.add(item(1n, 10))
  settlements.add(item(2n, 11))
  settlements.add(item(2n, 11))
  settlements.add(item(3n, 10))
  await sim.clock.advance(500)
  t.ok(
    asked.every((sequences) => new Set(sequences).size === sequences.length),
    'a sequence of two streams goes twice',
  )
  t.equal(settlements.size, 1)
  t.ok(settlements.has(1n), 'a read that began before may still show it')
  confirms = (sequences) => sequences
  await sim.clock.advance(3_000)
  t.equal(settlements.size, 0)
  t.equal(metrics.settled, 3)
  await sim.clock.advance(60_000)
  t.notOk(settlements.has(1n))
  settlements.stop()
})

t.test(
  'settlements: full of what waits for something older, which is refused: it gives way (simulation, seed 1153)',
  async (t) => {
    const { sim, core, settlements, givenUp } = settlementsOf(2)
    const queue = [20, 21, 22]
    core.bus.subscribe(SETTLE_SUBJECT, ({ body, reply }) => {
      const settled: number[] = []
      const asked = decodeSettleRequest(body).items.map(({ queueSequence }) => queueSequence)
      for (const sequence of asked.sort()) if (queue[0] === sequence) settled.push(queue.shift() ?? 0)
      core.bus.publish(reply, encodeSettleReply(settled))
    })
    await sim.clock.advance(100)
    t.same(
      [21, 22, 20].map((sequence) => settlements.add(item(BigInt(sequence), sequence))),
      [true, true, false],
    )
    await sim.clock.advance(3_000)
    t.same(givenUp, ['d', 'd'], 'its queue is to be read again')
    t.notOk(settlements.has(21n), 'and what is read is to be delivered again')
    for (const sequence of [20, 21, 22]) {
      t.ok(settlements.add(item(BigInt(sequence), sequence)))
      await sim.clock.advance(3_000)
    }
    t.same(queue, [])
    settlements.stop()
  },
)

t.test('settlements: nobody there, then too many', async (t) => {
  const { sim, core, metrics, settlements } = settlementsOf(3)
  t.same(
    [1, 2, 3, 4, 5].map((i) => settlements.add(item(BigInt(i), i))),
    [true, true, true, false, false],
  )
  await sim.clock.advance(5_000)
  t.equal(settlements.size, 3)
  t.equal(metrics.settlesRefused, 2)
  t.notOk(settlements.has(4n), 'to be delivered again')
  const settled: bigint[] = []
  core.bus.subscribe(SETTLE_SUBJECT, ({ body, reply }) => {
    const { items } = decodeSettleRequest(body)
    settled.push(...items.map(({ id }) => id))
    core.bus.publish(reply, encodeSettleReply(items.map(({ queueSequence }) => queueSequence)))
  })
  await sim.clock.advance(5_000)
  t.same(settled, [1n, 2n, 3n])
  settlements.stop()
})
