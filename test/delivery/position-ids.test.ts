/** Messages that come from a stream: one record is one message, whoever takes it, however often and however late. */
import t from 'tap'
import { ID_BLOCK, partitionOf, partitionOfId, timeOfId } from '../../protocol/message-id.js'
import { messagesStream } from '../../protocol/subjects.js'
import type { StreamPosition } from '../../src/core/domain/commands.js'
import { command, deviceName } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const idle = { routing: false }
const DEVICE = deviceName(1)

function placeOf(sim: SimInstallation, sequence: number, change: Partial<StreamPosition> = {}): StreamPosition {
  return { incarnation: 1, sequence, storedAtMs: sim.sim.clock.now(), isRepeat: false, ...change }
}

t.test('two cores that take the same record make one message, with the id of its place', async (t) => {
  const sim = new SimInstallation()
  const cores = [await sim.core(idle), await sim.core(idle)]
  const place = placeOf(sim, 7)
  const [one, other] = await sim.run(Promise.all(cores.map((core) => core.accept(command([DEVICE], { place })))))
  t.same(one, other)
  t.equal(one?.acceptedAtMs, place.storedAtMs)
  t.equal(partitionOfId(one?.id ?? 0n), partitionOf(DEVICE))
  t.equal(sim.sim.server.stream(messagesStream(0)).state().messages, 1)
})

t.test(
  'a record that comes again when its message has ended, to a core that never saw it, sends nothing',
  async (t) => {
    const sim = new SimInstallation()
    const worker = sim.worker()
    const core = await sim.core()
    await sim.run(worker.connect(DEVICE))
    const place = placeOf(sim, 7)
    const first = await sim.run(core.accept(command([DEVICE], { place })))
    await sim.run(core.final(first.id))
    await sim.sim.clock.run(130_000)
    const next = await sim.core(idle)
    const again = command([DEVICE], { place: { ...place, isRepeat: true } })
    t.same(await sim.run(next.accept(again)), first)
    await sim.sim.clock.run(1_000)
    t.equal(worker.items.length, 1)
    t.same(await sim.run(core.queue.walk(DEVICE)), [])
  },
)

t.test('other places have other ids, whatever they share, and no id that a core makes otherwise', async (t) => {
  const sim = new SimInstallation()
  const core = await sim.core(idle)
  const now = sim.sim.clock.now()
  const places: StreamPosition[] = []
  for (const incarnation of [1, 2]) {
    for (const storedAtMs of [now, now + 1_000]) {
      for (let sequence = 1; sequence <= 3 * ID_BLOCK; sequence += 64) {
        places.push({ incarnation, sequence, storedAtMs, isRepeat: false })
        places.push({ incarnation, sequence: sequence + 1, storedAtMs, isRepeat: false })
      }
    }
  }
  const all = await sim.run(
    Promise.all(places.flatMap((place) => [core.accept(command([DEVICE], { place })), core.accept(command([DEVICE]))])),
  )
  t.equal(new Set(all.map(({ id }) => id)).size, all.length)
  for (const { id } of all) t.ok(Math.abs(timeOfId(id) - now) < 1_000, 'an id tells about when')
})

t.test('a block that could not be claimed is asked for again', async (t) => {
  const sim = new SimInstallation()
  const core = await sim.core(idle)
  const place = placeOf(sim, 7)
  sim.sim.faults.refuseAppend = 1
  await t.rejects(sim.run(core.accept(command([DEVICE], { place }))), { code: 'unavailable' })
  sim.sim.heal()
  t.ok(await sim.run(core.accept(command([DEVICE], { place }))))
})

t.test('a place gives one id: nothing else may ask for it', async (t) => {
  const sim = new SimInstallation()
  const core = await sim.core(idle)
  const place = placeOf(sim, 7)
  const many = command([DEVICE, deviceName(2)], { place })
  await t.rejects(sim.run(core.accept(many)), { code: 'internal' })
})
