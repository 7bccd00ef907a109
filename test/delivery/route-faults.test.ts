/** What a router does when others, or itself, do not do as hoped: on virtual time. */
import t from 'tap'
import { decodeStoredMessage, Outcome } from '../../protocol/envelope.js'
import { rxSubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Log } from '../../src/nats/broker.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { command, deviceName, startTestCore } from '../support/core.js'
import { SIM_SPLIT, SimInstallation } from '../support/sim-core.js'

const HOUR_MS = 3_600_000

t.test(
  'a core that crashes before the JetStream acknowledgement: the message comes again, is queued, and is not lost',
  async (t) => {
    const place = new SimInstallation()
    const worker = place.worker()
    const core = await place.core()
    const device = deviceName(1)
    await place.run(worker.connect(device))
    // The device acknowledges, and in that moment the core is gone: no event, no acknowledgement.
    worker.onItem = () => {
      core.process.crash()
      return Outcome.ACKED
    }
    const { id } = await place.run(core.accept(command([device])))
    await place.sim.clock.run(100)
    t.equal(await place.run(core.events.readFinal(id)), null)
    t.equal(worker.items.length, 1)

    const next = await place.core()
    await place.run(next.acknowledged(device, id))
    t.equal(worker.items.length, 1, 'a redelivery never goes live')
    const queue = await place.run(next.queue.walk(device))
    t.same(
      queue.map((entry) => entry.record.message.id),
      [id],
    )
    t.ok(worker.asked.includes(device), 'its worker is asked to read the queue')
  },
)

t.test(
  'a crash between the final event and the acknowledgement: ended once, not appended, but looked after',
  async (t) => {
    const place = new SimInstallation()
    const worker = place.worker()
    const core = await place.core()
    const device = deviceName(2)
    await place.run(worker.connect(device))
    worker.onItem = () => 'silent'
    const { id } = await place.run(core.accept(command([device])))
    await place.sim.clock.run(20)
    core.process.crash()
    const { project, targets } = command([device])
    const application = targets[0]?.application ?? ''
    const delivered = { kind: 'delivered' as const, atMs: 1, project, application, device, reason: '' }
    t.same(await place.run(core.events.final(id, delivered)), { won: true })

    const next = await place.core()
    await place.run(next.acknowledged(device, id))
    t.same(await place.run(next.queue.walk(device)), [])
    t.ok(worker.asked.includes(device))
    t.match(await place.run(next.events.readAccepted(id)), { device }, 'its accepted event is there as well')
  },
)

t.test('what ends when it comes again does not stay in the queue, where an earlier try had put it', async (t) => {
  const place = new SimInstallation()
  const { clock, server } = place.sim
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(3)
  await place.run(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await place.run(core.accept(command([device], { ttlMs: 2_000 })))
  await clock.run(20)
  core.process.crash()
  // As far as an append whose answer found nobody: no entry in EXPIRY, no acknowledgement.
  const [record] = server.stream('MESSAGES_0').ever
  if (!record) throw new RangeError('nothing was stored')
  const message = decodeStoredMessage(record.body)
  const queued = { previous: 0, depth: 1, queue: id, dropped: 0, evicted: [], queuedAtMs: clock.now(), older: [] }
  await place.run(core.queue.append(device, { ...queued, message }, 0))
  await clock.run(2_000)

  const next = await place.core()
  t.match(await place.run(next.final(id)), { kind: 'expired' })
  await place.run(next.acknowledged(device, id))
  t.same(await place.run(next.queue.walk(device)), [])
})

t.test('an unknown session is not an offline one: nothing is acknowledged until the look succeeds', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core({ ackWaitMs: HOUR_MS })
  const device = deviceName(3)
  await place.run(worker.connect(device))
  worker.onItem = () => Outcome.WINDOW_FULL
  worker.onCatchUp = () => 'silent'
  const { id } = await place.run(core.accept(command([device])))
  await place.sim.clock.run(5_000)
  t.ok(await place.run(core.isStored(device, id)), 'still owed by MESSAGES')
  const copies = await place.run(core.queue.walk(device))
  t.equal(copies.length, 1, 'however often it came again, it is queued once')
  worker.onCatchUp = () => 'here'
  await place.run(core.acknowledged(device, id))
  t.pass()
})

t.test('a worker that is silent past its lease is dead, and its devices are queued', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(4)
  await place.run(worker.connect(device))
  worker.onItem = () => 'silent'
  worker.onCatchUp = () => 'silent'
  const { id } = await place.run(core.accept(command([device])))
  await place.run(core.acknowledged(device, id))
  t.equal((await place.run(core.queue.walk(device))).length, 1)
})

t.test(
  'a session that appears while its message is queued: the router sees it, or its worker sees the record',
  async (t) => {
    let asked = 0
    let read = 0
    for (let seed = 1; seed <= 40; seed++) {
      const place = new SimInstallation({ seed, faults: { latencyMs: [1, 5] } })
      const worker = place.worker()
      const core = await place.core()
      const device = deviceName(5)
      const workersQueue = new DeviceQueue(place.sim.brokerFor('reader'), SIM_SPLIT)
      let seen: Promise<boolean> | null = null
      // The accepted event is written while the router looks the session up: it finds none, and now the device comes. Its
      // worker writes the session, and then reads the queue, once.
      const stop = place.sim.server.follow(place.sim.server.stream('EVENTS_0'), {
        stored: () => {
          seen ??= worker.connect(device).then(async () => (await workersQueue.last(device)) !== null)
        },
      })
      const { id } = await place.run(core.accept(command([device])))
      await place.run(core.acknowledged(device, id))
      stop()
      const workerSaw = await place.run(seen ?? Promise.resolve(false))
      const routerSaw = worker.asked.includes(device) || worker.items.length > 0
      if (routerSaw) asked++
      if (workerSaw) read++
      t.ok(workerSaw || routerSaw, `seed ${seed}`)
    }
    t.ok(asked > 0 && read > 0, `each way happened: asked ${asked}, read ${read}`)
  },
)

t.test('not here, and no session elsewhere: queued, and the worker is believed when asked again', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(6)
  await place.run(worker.connect(device))
  worker.onItem = () => Outcome.NOT_HERE
  worker.onCatchUp = () => 'not_here'
  const { id } = await place.run(core.accept(command([device])))
  await place.run(core.acknowledged(device, id))
  t.equal(worker.items.length, 1, 'the same session is not tried twice')
  t.equal((await place.run(core.queue.walk(device))).length, 1)
})

t.test('a thousand silent devices do not delay the others', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core({ silentMs: 5_000, sweepMs: 250, ackWaitMs: 30_000 })
  const silent = Array.from({ length: 1_000 }, (_, n) => deviceName(n))
  const awake = Array.from({ length: 20 }, (_, n) => deviceName(10_000 + n))
  await place.run(Promise.all([...silent, ...awake].map((device) => worker.connect(device))))
  const asleep = new Set(silent)
  worker.onItem = ({ device }) => (asleep.has(device) ? 'silent' : Outcome.ACKED)
  await place.run(core.accept(command(silent)))
  await place.sim.clock.run(1_000)
  const beforeMs = place.sim.clock.now()
  const sent = await place.run(Promise.all(awake.map((device) => core.accept(command([device])))))
  await place.run(Promise.all(sent.map(({ id }) => core.final(id))))
  t.ok(place.sim.clock.now() - beforeMs < 100, `${place.sim.clock.now() - beforeMs} ms`)
  await place.sim.clock.run(6_000)
  const lengths = await place.run(Promise.all(silent.map(async (device) => (await core.queue.walk(device)).length)))
  t.same(new Set(lengths), new Set([1]), 'and each of the silent ones is queued')
})

t.test('a dead worker is not waited for', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core({ silentMs: HOUR_MS, ackWaitMs: HOUR_MS })
  const device = deviceName(14)
  await place.run(worker.connect(device))
  await place.run(core.final((await place.run(core.accept(command([device])))).id))
  worker.die()
  const beforeMs = place.sim.clock.now()
  const { id } = await place.run(core.accept(command([device])))
  await place.run(core.acknowledged(device, id))
  t.ok(place.sim.clock.now() - beforeMs < 100, `${place.sim.clock.now() - beforeMs} ms`)
  t.equal((await place.run(core.queue.walk(device))).length, 1)
})

t.test('nothing is acknowledged before its accepted event is stored', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const process = place.sim.brokerFor('core')
  const refusing = { on: true }
  const broker = refuseAccepted(process, refusing)
  const core = await place.run(startTestCore(broker, SIM_SPLIT, {}, process.clock, place.sim.random))
  const device = deviceName(15)
  await place.run(worker.connect(device))
  const { id } = await place.run(core.accept(command([device])))
  t.match(await place.run(core.final(id)), { kind: 'delivered' })
  await place.sim.clock.run(500)
  t.ok(await place.run(core.isStored(device, id)), 'delivered, and still in MESSAGES')
  refusing.on = false
  await place.run(core.acknowledged(device, id))
  t.match(await place.run(core.events.readAccepted(id)), { device })
})

/** A store that takes everything but accepted events. */
function refuseAccepted(broker: Broker, refusing: { on: boolean }): Broker {
  const log = (name: string): Log => {
    const real = broker.log(name)
    const append: Log['append'] = (subject, ...rest) => {
      if (!(refusing.on && subject.endsWith('.accepted'))) return real.append(subject, ...rest)
      return Promise.reject(new BrokerError('unavailable', 'refused'))
    }
    return new Proxy(real, {
      get: (target, key) => {
        if (key === 'append') return append
        const value: unknown = Reflect.get(target, key)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }
  return { bus: broker.bus, log, table: (name) => broker.table(name), connected: () => true } as Broker
}

t.test('ttl 0s: never queued', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const [connected, away, silent] = [deviceName(1), deviceName(2), deviceName(3)]
  await place.run(Promise.all([worker.connect(connected), worker.connect(silent)]))
  worker.onItem = ({ device }) => (device === silent ? 'silent' : Outcome.ACKED)
  const [a, b, c] = await place.run(
    Promise.all([connected, away, silent].map((device) => core.accept(command([device], { ttlMs: 0 })))),
  )
  t.match(await place.run(core.final(a?.id ?? 0n)), { kind: 'delivered' })
  t.match(await place.run(core.final(b?.id ?? 0n)), { kind: 'expired', reason: 'not_connected' })
  t.match(await place.run(core.final(c?.id ?? 0n)), { kind: 'expired', reason: 'not_acknowledged' })
  t.same(await place.run(core.queue.walk(away)), [])
  t.same(await place.run(core.queue.walk(silent)), [])
})

t.test('an acknowledgement that comes while its message is queued becomes the final event', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(9)
  await place.run(worker.connect(device))
  let router = ''
  place.sim.brokerFor('spy').bus.subscribe('tx.*.*', ({ reply }) => {
    router = reply.slice(rxSubject('').length, reply.lastIndexOf('.'))
  })
  worker.onItem = () => 'silent'
  worker.onCatchUp = (asked) => {
    // Enqueuing is under way: the append is stored and the router asks.
    const item = worker.items[0]
    if (item) worker.report(router, item.id, asked, Outcome.ACKED)
    return 'here'
  }
  const { id } = await place.run(core.accept(command([device])))
  t.match(await place.run(core.final(id)), { kind: 'delivered' })
  await place.run(core.acknowledged(device, id))
  t.equal((await place.run(core.queue.walk(device))).length, 1, 'enqueuing completes: settle deletes the record')
})

t.test('the first final event decides; a late acknowledgement is an entry of the trace', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(10)
  const { id } = await place.run(core.accept(command([device])))
  await place.run(core.acknowledged(device, id))
  t.equal(await place.run(core.cancel('acme', id)), 'cancelled')
  t.equal(await place.run(core.cancel('acme', id)), 'already_final')
  const item = { id, device, project: 'acme', application: 'app', queueSequence: 1, atMs: place.sim.clock.now() }
  t.same(await place.run(worker.settle([item])), [1])
  t.match(await place.run(core.events.readFinal(id)), { kind: 'cancelled' })
  const status = await place.run(core.readStatus(id))
  t.same(
    status?.trace.map(({ step }) => step),
    ['accepted', 'queued', 'cancelled', 'late_ack'],
  )
})

t.test('a second core takes over a stream within seconds of a crash', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const first = await place.core({ leaseMs: 3_000 })
  const second = await place.core({ leaseMs: 3_000 })
  const device = deviceName(11)
  await place.run(worker.connect(device))
  const before = await place.run(second.accept(command([device])))
  await place.run(second.final(before.id))
  first.process.crash()
  const { id } = await place.run(second.accept(command([device])))
  const crashedMs = place.sim.clock.now()
  t.match(await place.run(second.final(id)), { kind: 'delivered' })
  t.ok(place.sim.clock.now() - crashedMs < 6_000, `${place.sim.clock.now() - crashedMs} ms`)
})

t.test('a core that stops gives back what it did not bring to an end', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core({ ackWaitMs: HOUR_MS, silentMs: HOUR_MS, drainMs: 100 })
  const device = deviceName(12)
  await place.run(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await place.run(core.accept(command([device])))
  await place.sim.clock.run(50)
  await place.run(core.stop())
  const next = await place.core()
  await place.run(next.acknowledged(device, id))
  t.equal((await place.run(next.queue.walk(device))).length, 1)
})

t.test(
  'a first delivery that is queued after its ack wait: another router may have queued and dropped it',
  async (t) => {
    const place = new SimInstallation()
    const worker = place.worker()
    const ackWaitMs = 10_000
    const core = await place.core({ ackWaitMs, silentMs: 2 * ackWaitMs })
    const device = deviceName(20)
    await place.run(worker.connect(device))
    worker.onItem = () => 'silent'
    const { id } = await place.run(core.accept(command([device])))
    await place.sim.clock.run(100)
    const { project, targets } = command([device])
    const application = targets[0]?.application ?? ''
    await place.run(core.events.final(id, { kind: 'dropped', atMs: 1, project, application, device, reason: '' }))
    await place.run(core.acknowledged(device, id))
    // Appended after its drop was counted, it could be pushed out again, and be counted twice.
    t.equal(place.sim.server.stream('QUEUE_0').lastSequence, 0)
  },
)
