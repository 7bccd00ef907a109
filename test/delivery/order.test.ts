/** I3: messages of one producer to one registration come in the order in which they were accepted, also from the queue. */
import t from 'tap'
import { Report, type ReportCode } from '../../protocol/envelope.js'
import { deviceName, messageTo } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

t.test('messages of one producer keep their order while the first of them waits', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [1, 30] } })
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(7)
  await world.advanceUntil(worker.connect(device))
  const ids: bigint[] = []
  for (let n = 0; n < 20; n++) ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
  await world.advanceUntil(Promise.all(ids.map((id) => core.final(id))))
  t.same(
    worker.items.map((item) => item.id),
    ids,
  )
})

t.test('the order of those queued is that of their acceptance', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [1, 30] } })
  const core = await world.core()
  const device = deviceName(8)
  const ids: bigint[] = []
  for (let n = 0; n < 20; n++) ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
  await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  const queue = await world.advanceUntil(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})

t.test('a message behind one that is being queued waits for it', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [5, 5] } })
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(13)
  await world.advanceUntil(worker.connect(device))
  await world.advanceUntil(core.final((await world.advanceUntil(core.accept(messageTo([device])))).id))
  worker.onItem = () => Report.WINDOW_FULL
  const followers: Promise<bigint>[] = []
  const stop = world.sim.server.follow(world.sim.server.stream('QUEUE_0'), {
    stored: () => {
      // The first one's append is stored, the router does not know yet, and it still knows the session.
      worker.onItem = () => {
        t.same(worker.catchUpsAsked, [device], 'its worker was asked to read the queue before the next one comes live')
        return Report.ACKED
      }
      if (followers.length === 0) followers.push(core.accept(messageTo([device])).then(({ id }) => id))
    },
  })
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  await world.advanceUntil(core.acknowledged(device, id))
  stop()
  const [second] = await world.advanceUntil(Promise.all(followers))
  t.match(await world.advanceUntil(core.final(second ?? 0n)), { kind: 'delivered' })
})

t.test('what comes back undelivered stands before what came meanwhile', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [5, 5] } })
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(17)
  await world.advanceUntil(worker.connect(device))
  worker.onCatchUp = () => 'not_here'
  // The device is away, and its record does not say so. The first two are out, the second one's answer takes its time.
  const answers: ((report: ReportCode) => void)[] = []
  worker.onItem = () => new Promise((resolve) => answers.push(resolve))
  const ids = [
    (await world.advanceUntil(core.accept(messageTo([device])))).id,
    (await world.advanceUntil(core.accept(messageTo([device])))).id,
  ]
  await world.sim.clock.until(() => answers.length === 2, 1_000)
  const third: Promise<{ id: bigint }>[] = []
  const stop = world.sim.server.follow(world.sim.server.stream('QUEUE_0'), {
    stored: () => {
      if (third.length > 0) return
      third.push(core.accept(messageTo([device])))
      world.sim.clock.after(10, () => answers[1]?.(Report.NOT_HERE))
    },
  })
  answers[0]?.(Report.NOT_HERE)
  await world.advanceUntil(core.acknowledged(device, ids[0] ?? 0n))
  for (const { id } of await world.advanceUntil(Promise.all(third))) ids.push(id)
  t.equal(ids.length, 3)
  await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  stop()
  t.same(
    worker.items.map((item) => item.id),
    ids.slice(0, 2),
    'had the device come meanwhile, the third would have been there before the second',
  )
  const queue = await world.advanceUntil(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})

t.test('what is refused is not queued before what is older and still out', async (t) => {
  for (const many of [3, 100]) {
    const world = new SimInstallation()
    const worker = world.worker()
    const core = await world.core()
    const device = deviceName(16)
    await world.advanceUntil(worker.connect(device))
    // The first two are in the window of a device that does not answer; for the rest there is no room.
    worker.onItem = () => (worker.items.length <= 2 ? 'silent' : Report.WINDOW_FULL)
    const ids: bigint[] = []
    for (let n = 0; n < many; n++) ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
    await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
    const queue = await world.advanceUntil(core.queue.walk(device))
    t.same(
      queue.map((entry) => entry.record.message.id),
      ids,
      `${many} messages`,
    )
  }
})

t.test('nor together with what is older than that', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ silentMs: 1_000 })
  const device = deviceName(17)
  await world.advanceUntil(worker.connect(device))
  // The first is silent for as long as it may be; the second was sent later, and may be silent for longer.
  worker.onItem = () => 'silent'
  const ids = [(await world.advanceUntil(core.accept(messageTo([device])))).id]
  await world.sim.clock.advance(500)
  ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
  await world.sim.clock.advance(50)
  worker.onItem = () => Report.WINDOW_FULL
  ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
  await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  const queue = await world.advanceUntil(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})
