/** The final event of a target: expiry, cancellation or delivery, and the counters and status that it determines. */
import t from 'tap'
import { partitionOf } from '../../protocol/message-id.js'
import { queueStream, streamIndexOf } from '../../protocol/subjects.js'
import { EventLog } from '../../src/store/events.js'
import { deviceName, eventually, messageTo, PROJECT, targetOf } from '../support/core.js'
import { SIM_SPLIT, type SimCore, SimInstallation } from '../support/sim-core.js'

const MINUTE_MS = 60_000

/**
 * The counters summed over all applications and days. Waits until `accepted` targets are counted and all but
 * `accepted - ended` of them have ended.
 */
async function counted(world: SimInstallation, core: SimCore, accepted: number, ended: number) {
  return world.advanceUntil(
    eventually(world.sim.clock, 'the counters', async () => {
      const rows = await core.readCounters(PROJECT)
      const sum: Record<string, number> = {}
      for (const { counts } of rows) {
        for (const [kind, count] of Object.entries(counts)) sum[kind] = (sum[kind] ?? 0) + count
      }
      return sum.accepted === accepted && sum.pending === accepted - ended ? sum : null
    }),
  )
}

/** How many records were ever appended to the stream with the device's queue. */
async function queueAppends(world: SimInstallation, device: string): Promise<number> {
  const name = queueStream(streamIndexOf(partitionOf(device), SIM_SPLIT))
  return (await world.advanceUntil(world.sim.brokerFor('observer').log(name).state())).lastSequence
}

t.test('a queued message whose ttl ends gets the final event expired and leaves the queue; others stay', async (t) => {
  const world = new SimInstallation()
  const core = await world.core()
  const device = deviceName(1)
  const lasting = await world.advanceUntil(core.accept(messageTo([device])))
  const short = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 2_000 })))
  await world.advanceUntil(core.acknowledged(device, short.id))
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 2)
  t.match(await world.advanceUntil(core.final(short.id)), { kind: 'expired', atMs: short.expiresAtMs })
  await world.sim.clock.advance(1_000)
  t.same(
    (await world.advanceUntil(core.queue.walk(device))).map((entry) => entry.record.message.id),
    [lasting.id],
  )
})

t.test('messages that expired while no core ran end as expired when a core starts again', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ expiryBucketMs: 10_000, expiryLookBack: 2 })
  const device = deviceName(2)
  const ids: bigint[] = []
  for (let n = 0; n < 5; n++) {
    ids.push((await world.advanceUntil(core.accept(messageTo([device], { ttlMs: MINUTE_MS + n * 20_000 })))).id)
  }
  await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  core.process.crash()
  await world.sim.clock.advance(60 * MINUTE_MS)
  const next = await world.core({ expiryBucketMs: 10_000, expiryLookBack: 2 })
  const ends = await world.advanceUntil(Promise.all(ids.map((id) => next.final(id))))
  t.same(new Set(ends.map((end) => end.kind)), new Set(['expired']))
  await world.sim.clock.advance(1_000)
  t.same(await world.advanceUntil(next.queue.walk(device)), [])
  t.equal((await world.advanceUntil(world.sim.brokerFor('test').log('EXPIRY').state())).messages, 0, 'EXPIRY is empty')
})

t.test('a message accepted by a core with a slow clock expires after the clock is set forward', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ expiryBucketMs: 10_000, expiryLookBack: 2 })
  const device = deviceName(3)
  core.process.skewMs = -60 * MINUTE_MS
  await world.sim.clock.advance(MINUTE_MS)
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 2_000 })))
  await world.advanceUntil(core.acknowledged(device, id))
  core.process.skewMs = 0
  await world.sim.clock.advance(MINUTE_MS)
  t.match(await world.advanceUntil(core.final(id)), { kind: 'expired' })
  t.same(await world.advanceUntil(core.queue.walk(device)), [])
})

t.test('the count of dropped messages stays after the newest queued message, which held it, expires', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ queueMax: 3 })
  const device = deviceName(3)
  for (let n = 0; n < 4; n++) await world.advanceUntil(core.accept(messageTo([device])))
  const short = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 2_000 })))
  await world.advanceUntil(core.final(short.id))
  await world.sim.clock.advance(1_000)
  const last = await world.advanceUntil(core.queue.last(device))
  t.equal(last?.record.dropped, 2)
  t.equal((await world.advanceUntil(core.queue.walk(device))).length, 2)
})

t.test('a message cancelled before routing leaves MESSAGES and counts as accepted and cancelled', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ routing: false })
  const device = deviceName(4)
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  t.match(await world.advanceUntil(core.readStatus(id)), { status: 'accepted', target: `${device}/1` })
  t.equal(
    await world.advanceUntil(core.cancel('other', id)),
    'unknown',
    'a project cannot cancel the message of another project',
  )
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'cancelled')
  t.notOk(await world.advanceUntil(core.isStored(device, id)))
  t.match(await counted(world, core, 1, 1), { accepted: 1, cancelled: 1, pending: 0 })
})

t.test('messages cancelled while queued leave the queue from the middle and from its end', async (t) => {
  const world = new SimInstallation()
  const core = await world.core()
  const device = deviceName(5)
  const ids: bigint[] = []
  for (let n = 0; n < 4; n++) ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
  await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  for (const index of [1, 3]) t.equal(await world.advanceUntil(core.cancel(PROJECT, ids[index] ?? 0n)), 'cancelled')
  const rest = (await world.advanceUntil(core.queue.walk(device))).map((entry) => entry.record.message.id)
  t.same(rest, [ids[0], ids[2]])
  t.equal(await world.advanceUntil(core.cancel(PROJECT, 1n << 40n)), 'unknown')
})

t.test('once a cancel is answered, its message is not queued, even if a router was about to enqueue it', async (t) => {
  const answers = new Set<string>()
  for (let seed = 1; seed <= 40; seed++) {
    const world = new SimInstallation({ seed, faults: { latencyMs: [1, 5] } })
    const router = await world.core({ gateway: false })
    const gateway = await world.core({ routing: false })
    const device = deviceName(100 + seed)
    const { id } = await world.advanceUntil(gateway.accept(messageTo([device])))
    // The router freezes between its first lookup and its append, and goes on after the cancel.
    await world.sim.clock.advance(seed % 20)
    router.process.freeze()
    const codeOf = (error: { code?: string }) => error.code ?? String(error)
    const answer = await world.advanceUntil(gateway.cancel(PROJECT, id).catch(codeOf))
    answers.add(answer)
    const before = await queueAppends(world, device)
    t.same(
      await world.advanceUntil(gateway.queue.walk(device)),
      [],
      `seed ${seed}: not in the queue when the cancel is answered`,
    )
    router.process.thaw()
    await world.sim.clock.advance(5_000)
    if (answer === 'cancelled') t.equal(await queueAppends(world, device), before, `seed ${seed}: not queued later`)
    else t.equal(answer, 'unavailable', `seed ${seed}: the router did not answer the cancel`)
    t.equal(await world.advanceUntil(gateway.cancel(PROJECT, id)), 'cancelled', `seed ${seed}: a second cancel`)
    t.same(await world.advanceUntil(gateway.queue.walk(device)), [], `seed ${seed}: the queue at the end`)
    t.notOk(await world.advanceUntil(gateway.isStored(device, id)), `seed ${seed}: not in MESSAGES`)
  }
  t.same([...answers].sort(), ['cancelled', 'unavailable'], 'the seeds freeze the router before and after its lookup')
})

t.test('a message that is cancelled while a silent worker has it is not queued when the worker dies', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  worker.onItem = () => 'silent'
  const core = await world.core()
  const device = deviceName(7)
  await world.advanceUntil(worker.connect(device))
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(100)
  t.equal(worker.items.length, 1, 'the worker has it')
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'cancelled')
  // The worker dies without a report. The router takes the message back after silentMs.
  worker.die()
  await world.sim.clock.advance(2 * MINUTE_MS)
  t.notOk(await world.advanceUntil(core.isStored(device, id)), 'the router has finished')
  t.equal(await queueAppends(world, device), 0)
})

t.test('when a cancel races with the delivery, its answer agrees with the final event', async (t) => {
  const kinds = new Set<string>()
  for (let seed = 1; seed <= 20; seed++) {
    const world = new SimInstallation({ seed, faults: { latencyMs: [1, 20] } })
    const worker = world.worker()
    const core = await world.core()
    const device = deviceName(6)
    await world.advanceUntil(worker.connect(device))
    const { id } = await world.advanceUntil(core.accept(messageTo([device])))
    const answer = await world.advanceUntil(core.cancel(PROJECT, id))
    const { kind } = await world.advanceUntil(core.final(id))
    t.equal(answer === 'cancelled', kind === 'cancelled', `seed ${seed}: ${answer}, ${kind}`)
    kinds.add(kind)
    await world.sim.clock.advance(1_000)
    t.match(await counted(world, core, 1, 1), { [kind]: 1, pending: 0 })
  }
  t.same([...kinds].sort(), ['cancelled', 'delivered'], 'the seeds have both outcomes')
})

t.test('a later final event of a target is refused, and its writer gets the first one', async (t) => {
  const world = new SimInstallation()
  const process = world.sim.brokerFor('one')
  const [first, second] = [
    new EventLog(process, SIM_SPLIT, 'a'),
    new EventLog(world.sim.brokerFor('two'), SIM_SPLIT, 'b'),
  ]
  const event = (kind: 'delivered' | 'expired') => ({
    kind,
    atMs: 1,
    project: PROJECT,
    application: 'app',
    device: 'd',
    reason: '',
  })
  t.same(await world.advanceUntil(first.final(5n, event('delivered'))), { won: true })
  t.match(await world.advanceUntil(second.final(5n, event('expired'))), { won: false, existing: { kind: 'delivered' } })
  t.match(await world.advanceUntil(first.final(5n, event('expired'))), { won: false, existing: { kind: 'delivered' } })
})

t.test('the counters equal the events in the log although the counting core crashed many times', async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = new SimInstallation({ seed, faults: { latencyMs: [1, 15], loseAnswer: 0.01 } })
    const worker = world.worker()
    const steady = await world.core({ counting: false })
    const fold = { routing: false, settling: false, expiring: false, scheduling: false, checkpointMs: 20, leaseMs: 200 }
    // A core does not start if the store leaves a request of the start unanswered. The process manager starts it again.
    const startFold = async (): Promise<SimCore> => {
      const [started] = await Promise.allSettled([world.core(fold)])
      return started.status === 'fulfilled' ? started.value : startFold()
    }
    let folding = await startFold()
    const online = deviceName(1)
    const claims = await world.advanceUntil(Promise.allSettled([worker.connect(online)]))
    if (claims[0]?.status === 'rejected') await world.advanceUntil(worker.connect(online))
    let accepted = 0
    for (let n = 0; n < 60; n++) {
      const device = n % 3 === 0 ? deviceName(2) : online
      const sent = await world.advanceUntil(Promise.allSettled([steady.accept(messageTo([device]))]))
      if (sent[0]?.status === 'fulfilled') accepted++
      // A core without a node number refuses at once: it needs time to get one.
      else await world.sim.clock.advance(100)
      if (n % 7 === 0) {
        folding.process.crash()
        folding = await startFold()
      }
    }
    world.sim.heal()
    await world.sim.clock.advance(20_000)
    const log = world.sim.brokerFor('test').log('EVENTS_0')
    const expected = { accepted: 0, delivered: 0 }
    for (let record = await world.advanceUntil(log.next('event.>', 1)); record; ) {
      if (record.subject.endsWith('.accepted')) expected.accepted++
      if (record.subject.endsWith('.final')) expected.delivered++
      record = await world.advanceUntil(log.next('event.>', record.sequence + 1))
    }
    t.ok(expected.accepted >= accepted)
    const counts = await counted(world, folding, expected.accepted, expected.delivered)
    t.match(counts, expected, `seed ${seed}`)
  }
})

t.test('a settle request writes the final event at once, and confirms an item after all older ones', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(7)
  for (let n = 0; n < 3; n++) await world.advanceUntil(core.accept(messageTo([device])))
  await world.sim.clock.advance(200)
  const entries = await world.advanceUntil(core.queue.walk(device))
  const items = entries.map(({ sequence, record }) => ({
    id: record.message.id,
    device,
    project: PROJECT,
    application: targetOf(device).application,
    queueSequence: sequence,
    atMs: world.sim.clock.now(),
  }))
  const [first, second, third] = items
  if (!first || !second || !third) return t.fail('three messages are expected in the queue')
  t.same(await world.advanceUntil(worker.settle([second, third])), [], 'items after an unsettled one are not confirmed')
  t.match(
    await world.advanceUntil(core.events.readFinal(third.id)),
    { kind: 'delivered' },
    'their final events are written',
  )
  t.same(await world.advanceUntil(worker.settle([first])), [first.queueSequence])
  t.same(await world.advanceUntil(worker.settle([third, second])), [third.queueSequence, second.queueSequence])
  t.same(await world.advanceUntil(core.queue.walk(device)), [])
})
