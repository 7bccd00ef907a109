/** A router beside crashed cores, dead or silent workers and a store that refuses, on virtual time. */
import t from 'tap'
import { decodeStoredMessage, Report } from '../../protocol/envelope.js'
import { rxSubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Log } from '../../src/nats/broker.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { deviceName, messageTo, startTestCore } from '../support/core.js'
import { SIM_SPLIT, SimInstallation } from '../support/sim-core.js'

const HOUR_MS = 3_600_000

t.test('after a core crashed before the JetStream acknowledgement, the redelivered message is queued', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(1)
  await world.advanceUntil(worker.connect(device))
  // The core crashes at the moment of the device's acknowledgement: no event is written and nothing is acknowledged.
  worker.onItem = () => {
    core.process.crash()
    return Report.ACKED
  }
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(100)
  t.equal(await world.advanceUntil(core.events.readFinal(id)), null)
  t.equal(worker.items.length, 1)

  const next = await world.core()
  await world.advanceUntil(next.acknowledged(device, id))
  t.equal(worker.items.length, 1, 'a redelivery is not sent live')
  const queue = await world.advanceUntil(next.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    [id],
  )
  t.ok(worker.catchUpsAsked.includes(device), 'its worker is asked to read the queue')
})

t.test('after a crash between final event and acknowledgement, a redelivery is acknowledged, not queued', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(2)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(20)
  core.process.crash()
  const { project, targets } = messageTo([device])
  const application = targets[0]?.application ?? ''
  const delivered = { kind: 'delivered' as const, atMs: 1, project, application, device, reason: '' }
  t.same(await world.advanceUntil(core.events.final(id, delivered)), { won: true })

  const next = await world.core()
  await world.advanceUntil(next.acknowledged(device, id))
  t.same(await world.advanceUntil(next.queue.walk(device)), [])
  t.ok(worker.catchUpsAsked.includes(device))
  t.match(await world.advanceUntil(next.events.readAccepted(id)), { device }, 'its accepted event is written too')
})

t.test('a redelivered message that has expired leaves the queue in which an earlier try put it', async (t) => {
  const world = new SimInstallation()
  const { clock, server } = world.sim
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(3)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 2_000 })))
  await clock.advance(20)
  core.process.crash()
  // The state after an append whose answer was lost: no entry in EXPIRY, no acknowledgement.
  const [record] = server.stream('MESSAGES_0').ever
  if (!record) throw new RangeError('nothing was stored')
  const message = decodeStoredMessage(record.body)
  const queued = { previous: 0, depth: 1, queue: id, dropped: 0, evicted: [], queuedAtMs: clock.now(), older: [] }
  await world.advanceUntil(core.queue.append(device, { ...queued, message }, 0))
  await clock.advance(2_000)

  const next = await world.core()
  t.match(await world.advanceUntil(next.final(id)), { kind: 'expired' })
  await world.advanceUntil(next.acknowledged(device, id))
  t.same(await world.advanceUntil(next.queue.walk(device)), [])
})

t.test('a worker that says expired is not believed: the router looks at its own clock', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(4)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => Report.EXPIRED
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 10_000 })))
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal(await world.advanceUntil(core.events.readFinal(id)), null, 'it has not ended')
  t.match(await world.advanceUntil(core.events.readTrace(id)), [{ step: 'queued', reason: 'clock' }])
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1)

  worker.onItem = async () => {
    await new Promise<void>((resolve) => void world.sim.clock.after(2_500, resolve))
    return Report.EXPIRED
  }
  const short = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 2_000 })))
  t.match(await world.advanceUntil(core.final(short.id)), { kind: 'expired' }, 'by both clocks')
})

t.test('while the state of a session is unknown, its messages are queued once and not acknowledged', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ ackWaitMs: HOUR_MS })
  const device = deviceName(3)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => Report.WINDOW_FULL
  worker.onCatchUp = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(5_000)
  t.ok(await world.advanceUntil(core.isStored(device, id)), 'still in MESSAGES')
  const copies = await world.advanceUntil(core.queue.walk(device))
  t.equal(copies.length, 1, 'queued once, although it was redelivered several times')
  worker.onCatchUp = () => 'here'
  await world.advanceUntil(core.acknowledged(device, id))
  t.notOk(await world.advanceUntil(core.isStored(device, id)), 'acknowledged once the worker answers')
})

t.test('a worker that is silent past its lease counts as dead, and messages to its devices are queued', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(4)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  worker.onCatchUp = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1)
})

t.test('if a device connects while its message is being queued, the router or the worker notices', async (t) => {
  let routerNoticed = 0
  let workerNoticed = 0
  for (let seed = 1; seed <= 40; seed++) {
    const world = new SimInstallation({ seed, faults: { latencyMs: [1, 5] } })
    const worker = world.worker()
    const core = await world.core()
    const device = deviceName(5)
    const workersQueue = new DeviceQueue(world.sim.brokerFor('reader'), SIM_SPLIT)
    let seen: Promise<boolean> | null = null
    // The accepted event is written while the router looks the session up and finds none. The device connects at that
    // moment: its worker writes the session and then reads the queue once.
    const stop = world.sim.server.follow(world.sim.server.stream('EVENTS_0'), {
      stored: () => {
        seen ??= worker.connect(device).then(async () => (await workersQueue.last(device)) !== null)
      },
    })
    const { id } = await world.advanceUntil(core.accept(messageTo([device])))
    await world.advanceUntil(core.acknowledged(device, id))
    stop()
    const workerSaw = await world.advanceUntil(seen ?? Promise.resolve(false))
    const routerSaw = worker.catchUpsAsked.includes(device) || worker.items.length > 0
    if (routerSaw) routerNoticed++
    if (workerSaw) workerNoticed++
    t.ok(workerSaw || routerSaw, `seed ${seed}`)
  }
  t.ok(
    routerNoticed > 0 && workerNoticed > 0,
    `both occurred: the router noticed ${routerNoticed} times, the worker ${workerNoticed} times`,
  )
})

t.test(
  'a message that the worker of the same session answers twice with not_here is queued, not sent again',
  async (t) => {
    const world = new SimInstallation()
    const worker = world.worker()
    const core = await world.core()
    const device = deviceName(6)
    await world.advanceUntil(worker.connect(device))
    worker.onItem = () => Report.NOT_HERE
    worker.onCatchUp = () => 'not_here'
    const { id } = await world.advanceUntil(core.accept(messageTo([device])))
    await world.advanceUntil(core.acknowledged(device, id))
    t.equal(worker.items.length, 1, 'one attempt')
    t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1)
  },
)

t.test('a thousand silent devices do not delay messages to other devices', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ silentMs: 5_000, sweepMs: 250, ackWaitMs: 30_000 })
  const silent = Array.from({ length: 1_000 }, (_, n) => deviceName(n))
  const awake = Array.from({ length: 20 }, (_, n) => deviceName(10_000 + n))
  await world.advanceUntil(Promise.all([...silent, ...awake].map((device) => worker.connect(device))))
  const silentDevices = new Set(silent)
  worker.onItem = ({ device }) => (silentDevices.has(device) ? 'silent' : Report.ACKED)
  await world.advanceUntil(core.accept(messageTo(silent)))
  await world.sim.clock.advance(1_000)
  const beforeMs = world.sim.clock.now()
  const sent = await world.advanceUntil(Promise.all(awake.map((device) => core.accept(messageTo([device])))))
  await world.advanceUntil(Promise.all(sent.map(({ id }) => core.final(id))))
  t.ok(world.sim.clock.now() - beforeMs < 100, `${world.sim.clock.now() - beforeMs} ms`)
  await world.sim.clock.advance(6_000)
  const lengths = await world.advanceUntil(
    Promise.all(silent.map(async (device) => (await core.queue.walk(device)).length)),
  )
  t.same(new Set(lengths), new Set([1]), 'each message to a silent device is queued')
})

t.test('a message to a device of a dead worker is queued at once, without waiting for silence', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ silentMs: HOUR_MS, ackWaitMs: HOUR_MS })
  const device = deviceName(14)
  await world.advanceUntil(worker.connect(device))
  await world.advanceUntil(core.final((await world.advanceUntil(core.accept(messageTo([device])))).id))
  worker.die()
  const beforeMs = world.sim.clock.now()
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.advanceUntil(core.acknowledged(device, id))
  t.ok(world.sim.clock.now() - beforeMs < 100, `${world.sim.clock.now() - beforeMs} ms`)
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1)
})

t.test('a delivered message is not acknowledged to JetStream before its accepted event is stored', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const process = world.sim.brokerFor('core')
  const refusing = { on: true }
  const broker = refuseAccepted(process, refusing)
  const core = await world.advanceUntil(startTestCore(broker, SIM_SPLIT, {}, process.clock, world.sim.random))
  const device = deviceName(15)
  await world.advanceUntil(worker.connect(device))
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  t.match(await world.advanceUntil(core.final(id)), { kind: 'delivered' })
  await world.sim.clock.advance(500)
  t.ok(await world.advanceUntil(core.isStored(device, id)), 'delivered, and still in MESSAGES')
  refusing.on = false
  await world.advanceUntil(core.acknowledged(device, id))
  t.match(await world.advanceUntil(core.events.readAccepted(id)), { device })
})

/** A broker that refuses accepted events, as long as `refusing.on`, and stores all other records. */
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

t.test('a message with ttl 0s to a connected device is delivered', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(1)
  await world.advanceUntil(worker.connect(device))
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 0 })))
  t.match(await world.advanceUntil(core.final(id)), { kind: 'delivered' })
})

t.test('a message with ttl 0s to an absent device expires as not_connected, and is not queued', async (t) => {
  const world = new SimInstallation()
  const core = await world.core()
  const device = deviceName(2)
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 0 })))
  t.match(await world.advanceUntil(core.final(id)), { kind: 'expired', reason: 'not_connected' })
  t.same(await world.advanceUntil(core.queue.walk(device)), [])
})

t.test('a message with ttl 0s to a silent device expires as not_acknowledged, and is not queued', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(3)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 0 })))
  t.match(await world.advanceUntil(core.final(id)), { kind: 'expired', reason: 'not_acknowledged' })
  t.same(await world.advanceUntil(core.queue.walk(device)), [])
})

t.test('an acknowledgement by the device while its message is being queued becomes the final event', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(9)
  await world.advanceUntil(worker.connect(device))
  let router = ''
  world.sim.brokerFor('spy').bus.subscribe('tx.*.*', ({ reply }) => {
    router = reply.slice(rxSubject('').length, reply.lastIndexOf('.'))
  })
  worker.onItem = () => 'silent'
  worker.onCatchUp = (asked) => {
    // The append is stored and the router asks the worker to read the queue.
    const item = worker.items[0]
    if (item) worker.report(router, item.id, asked, Report.ACKED)
    return 'here'
  }
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  t.match(await world.advanceUntil(core.final(id)), { kind: 'delivered' })
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1, 'the record stays until settle deletes it')
})

t.test('a second cancel of a cancelled message answers cancelled', async (t) => {
  const world = new SimInstallation()
  const core = await world.core()
  const device = deviceName(10)
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal(await world.advanceUntil(core.cancel('acme', id)), 'cancelled')
  t.equal(await world.advanceUntil(core.cancel('acme', id)), 'cancelled')
})

t.test('an acknowledgement after a cancel leaves the status cancelled and is traced as late_ack', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(10)
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal(await world.advanceUntil(core.cancel('acme', id)), 'cancelled')
  const item = { id, device, project: 'acme', application: 'app', queueSequence: 1, atMs: world.sim.clock.now() }
  t.same(await world.advanceUntil(worker.settle([item])), [1])
  t.match(await world.advanceUntil(core.events.readFinal(id)), { kind: 'cancelled' })
  const status = await world.advanceUntil(core.readStatus(id))
  t.same(
    status?.trace.map(({ step }) => step),
    ['accepted', 'queued', 'cancelled', 'late_ack'],
  )
})

t.test('a second core takes over the stream of a crashed one within 6 seconds', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const first = await world.core({ leaseMs: 3_000 })
  const second = await world.core({ leaseMs: 3_000 })
  const device = deviceName(11)
  await world.advanceUntil(worker.connect(device))
  const before = await world.advanceUntil(second.accept(messageTo([device])))
  await world.advanceUntil(second.final(before.id))
  first.process.crash()
  const { id } = await world.advanceUntil(second.accept(messageTo([device])))
  const crashedMs = world.sim.clock.now()
  t.match(await world.advanceUntil(second.final(id)), { kind: 'delivered' })
  t.ok(world.sim.clock.now() - crashedMs < 6_000, `${world.sim.clock.now() - crashedMs} ms`)
})

t.test('a core that stops returns unfinished messages to JetStream, and the next one queues them', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ ackWaitMs: HOUR_MS, silentMs: HOUR_MS, drainMs: 100 })
  const device = deviceName(12)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(50)
  await world.advanceUntil(core.stop())
  const next = await world.core()
  await world.advanceUntil(next.acknowledged(device, id))
  t.equal((await world.advanceUntil(next.queue.walk(device))).length, 1)
})

t.test('a first delivery that is queued after its ack wait is not appended if it was dropped meanwhile', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const ackWaitMs = 10_000
  const core = await world.core({ ackWaitMs, silentMs: 2 * ackWaitMs })
  const device = deviceName(20)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(100)
  const { project, targets } = messageTo([device])
  const application = targets[0]?.application ?? ''
  await world.advanceUntil(
    core.events.final(id, { kind: 'dropped', atMs: 1, project, application, device, reason: '' }),
  )
  await world.advanceUntil(core.acknowledged(device, id))
  // The drop is counted. A second append could be dropped and counted again.
  t.equal(world.sim.server.stream('QUEUE_0').lastSequence, 0)
})
