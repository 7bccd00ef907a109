/** Invariant I3: messages of one producer to one registration arrive in the order of acceptance, also from the queue. */
import t from 'tap'
import { Report, type ReportCode } from '../../protocol/envelope.js'
import { deviceName, messageTo } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

t.test('messages to a connected device are sent in order although the first has to wait for a lookup', async (t) => {
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

t.test('messages to an absent device are queued in the order of acceptance', async (t) => {
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

t.test('a message accepted while an older one is being queued waits until the worker reads the queue', async (t) => {
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
      // The append of the first message is stored. The router does not know yet, and its session cache is still valid.
      worker.onItem = () => {
        t.same(worker.catchUpsAsked, [device], 'the worker is asked to read the queue before it gets the next message')
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

t.test('messages that come back undelivered are queued before one accepted in the meantime', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [5, 5] } })
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(17)
  await world.advanceUntil(worker.connect(device))
  worker.onCatchUp = () => 'not_here'
  // The device is away, but its session record says otherwise. The worker gets two messages and answers the second late.
  const answers: ((outcome: ReportCode) => void)[] = []
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
    'the third was not sent before the second: a device that reconnected then would get them in the wrong order',
  )
  const queue = await world.advanceUntil(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})

t.test('messages refused for a full window are queued after older ones that are not answered yet', async (t) => {
  for (const count of [3, 100]) {
    const world = new SimInstallation()
    const worker = world.worker()
    const core = await world.core()
    const device = deviceName(16)
    await world.advanceUntil(worker.connect(device))
    // The first two fill the window of a device that does not acknowledge; the worker refuses the rest.
    worker.onItem = () => (worker.items.length <= 2 ? 'silent' : Report.WINDOW_FULL)
    const ids: bigint[] = []
    for (let n = 0; n < count; n++) ids.push((await world.advanceUntil(core.accept(messageTo([device])))).id)
    await world.advanceUntil(Promise.all(ids.map((id) => core.acknowledged(device, id))))
    const queue = await world.advanceUntil(core.queue.walk(device))
    t.same(
      queue.map((entry) => entry.record.message.id),
      ids,
      `${count} messages`,
    )
  }
})

t.test('a refused message is queued behind two older ones that go silent at different times', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core({ silentMs: 1_000 })
  const device = deviceName(17)
  await world.advanceUntil(worker.connect(device))
  // The first message reaches its time limit for an answer first; the second was sent later and has more time left.
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
