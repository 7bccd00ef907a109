/** I3: messages of one producer to one registration come in the order in which they were accepted, also from the queue. */
import t from 'tap'
import { Outcome, type OutcomeCode } from '../../protocol/envelope.js'
import { command, deviceName } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

t.test('messages of one producer keep their order while the first of them waits', async (t) => {
  const place = new SimInstallation({ faults: { latencyMs: [1, 30] } })
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(7)
  await place.run(worker.connect(device))
  const ids: bigint[] = []
  for (let n = 0; n < 20; n++) ids.push((await place.run(core.accept(command([device])))).id)
  await place.run(Promise.all(ids.map((id) => core.final(id))))
  t.same(
    worker.items.map((item) => item.id),
    ids,
  )
})

t.test('the order of those queued is that of their acceptance', async (t) => {
  const place = new SimInstallation({ faults: { latencyMs: [1, 30] } })
  const core = await place.core()
  const device = deviceName(8)
  const ids: bigint[] = []
  for (let n = 0; n < 20; n++) ids.push((await place.run(core.accept(command([device])))).id)
  await place.run(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  const queue = await place.run(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})

t.test('a message behind one that is being queued waits for it', async (t) => {
  const place = new SimInstallation({ faults: { latencyMs: [5, 5] } })
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(13)
  await place.run(worker.connect(device))
  await place.run(core.final((await place.run(core.accept(command([device])))).id))
  worker.onItem = () => Outcome.WINDOW_FULL
  const followers: Promise<bigint>[] = []
  const stop = place.sim.server.follow(place.sim.server.stream('QUEUE_0'), {
    stored: () => {
      // The first one's append is stored, the router does not know yet, and it still knows the session.
      worker.onItem = () => {
        t.same(worker.asked, [device], 'its worker was asked to read the queue before the next one comes live')
        return Outcome.ACKED
      }
      if (followers.length === 0) followers.push(core.accept(command([device])).then(({ id }) => id))
    },
  })
  const { id } = await place.run(core.accept(command([device])))
  await place.run(core.acknowledged(device, id))
  stop()
  const [second] = await place.run(Promise.all(followers))
  t.match(await place.run(core.final(second ?? 0n)), { kind: 'delivered' })
})

t.test('what comes back undelivered stands before what came meanwhile', async (t) => {
  const place = new SimInstallation({ faults: { latencyMs: [5, 5] } })
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(17)
  await place.run(worker.connect(device))
  worker.onCatchUp = () => 'not_here'
  // The device is away, and its record does not say so. The first two are out, the second one's answer takes its time.
  const answers: ((outcome: OutcomeCode) => void)[] = []
  worker.onItem = () => new Promise((resolve) => answers.push(resolve))
  const ids = [
    (await place.run(core.accept(command([device])))).id,
    (await place.run(core.accept(command([device])))).id,
  ]
  await place.sim.clock.until(() => answers.length === 2, 1_000)
  const third: Promise<{ id: bigint }>[] = []
  const stop = place.sim.server.follow(place.sim.server.stream('QUEUE_0'), {
    stored: () => {
      if (third.length > 0) return
      third.push(core.accept(command([device])))
      place.sim.clock.after(10, () => answers[1]?.(Outcome.NOT_HERE))
    },
  })
  answers[0]?.(Outcome.NOT_HERE)
  await place.run(core.acknowledged(device, ids[0] ?? 0n))
  for (const { id } of await place.run(Promise.all(third))) ids.push(id)
  t.equal(ids.length, 3)
  await place.run(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  stop()
  t.same(
    worker.items.map((item) => item.id),
    ids.slice(0, 2),
    'had the device come meanwhile, the third would have been there before the second',
  )
  const queue = await place.run(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})

t.test('what is refused is not queued before what is older and still out', async (t) => {
  for (const many of [3, 100]) {
    const place = new SimInstallation()
    const worker = place.worker()
    const core = await place.core()
    const device = deviceName(16)
    await place.run(worker.connect(device))
    // The first two are in the window of a device that does not answer; for the rest there is no room.
    worker.onItem = () => (worker.items.length <= 2 ? 'silent' : Outcome.WINDOW_FULL)
    const ids: bigint[] = []
    for (let n = 0; n < many; n++) ids.push((await place.run(core.accept(command([device])))).id)
    await place.run(Promise.all(ids.map((id) => core.acknowledged(device, id))))
    const queue = await place.run(core.queue.walk(device))
    t.same(
      queue.map((entry) => entry.record.message.id),
      ids,
      `${many} messages`,
    )
  }
})

t.test('nor together with what is older than that', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core({ silentMs: 1_000 })
  const device = deviceName(17)
  await place.run(worker.connect(device))
  // The first is silent for as long as it may be; the second was sent later, and may be silent for longer.
  worker.onItem = () => 'silent'
  const ids = [(await place.run(core.accept(command([device])))).id]
  await place.sim.clock.run(500)
  ids.push((await place.run(core.accept(command([device])))).id)
  await place.sim.clock.run(50)
  worker.onItem = () => Outcome.WINDOW_FULL
  ids.push((await place.run(core.accept(command([device])))).id)
  await place.run(Promise.all(ids.map((id) => core.acknowledged(device, id))))
  const queue = await place.run(core.queue.walk(device))
  t.same(
    queue.map((entry) => entry.record.message.id),
    ids,
  )
})
