/** Messages accepted from a stream: each record makes one message, whichever core accepts it, how often and how late. */
import t from 'tap'
import { ID_BLOCK, partitionOf, partitionOfId, timeOfId } from '../../protocol/message-id.js'
import { messagesStream } from '../../protocol/subjects.js'
import type { StreamPosition } from '../../src/core/domain/commands.js'
import { deviceName, messageTo } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const acceptOnly = { routing: false }
const DEVICE = deviceName(1)

/** The position of a record that was stored now. */
function positionOf(world: SimInstallation, sequence: number, change: Partial<StreamPosition> = {}): StreamPosition {
  return { incarnation: 1, sequence, storedAtMs: world.sim.clock.now(), isRepeat: false, ...change }
}

t.test('two cores that accept the same record make one message, with the id of its position', async (t) => {
  const world = new SimInstallation()
  const cores = [await world.core(acceptOnly), await world.core(acceptOnly)]
  const position = positionOf(world, 7)
  const [one, other] = await world.advanceUntil(
    Promise.all(cores.map((core) => core.accept(messageTo([DEVICE], { position })))),
  )
  t.same(one, other)
  t.equal(one?.acceptedAtMs, position.storedAtMs)
  t.equal(partitionOfId(one?.id ?? 0n), partitionOf(DEVICE))
  t.equal(world.sim.server.stream(messagesStream(0)).state().messages, 1)
})

t.test(
  'a record that is delivered again to another core, after its message ended, makes no second message',
  async (t) => {
    const world = new SimInstallation()
    const worker = world.worker()
    const core = await world.core()
    await world.advanceUntil(worker.connect(DEVICE))
    const position = positionOf(world, 7)
    const first = await world.advanceUntil(core.accept(messageTo([DEVICE], { position })))
    await world.advanceUntil(core.final(first.id))
    await world.sim.clock.advance(130_000)
    const next = await world.core(acceptOnly)
    const again = messageTo([DEVICE], { position: { ...position, isRepeat: true } })
    t.same(await world.advanceUntil(next.accept(again)), first)
    await world.sim.clock.advance(1_000)
    t.equal(worker.items.length, 1)
    t.same(await world.advanceUntil(core.queue.walk(DEVICE)), [])
  },
)

t.test('ids of stream positions differ from each other and from ids that a core makes otherwise', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const now = world.sim.clock.now()
  const positions: StreamPosition[] = []
  for (const incarnation of [1, 2]) {
    for (const storedAtMs of [now, now + 1_000]) {
      for (let sequence = 1; sequence <= 3 * ID_BLOCK; sequence += 64) {
        positions.push({ incarnation, sequence, storedAtMs, isRepeat: false })
        positions.push({ incarnation, sequence: sequence + 1, storedAtMs, isRepeat: false })
      }
    }
  }
  const all = await world.advanceUntil(
    Promise.all(
      positions.flatMap((position) => [
        core.accept(messageTo([DEVICE], { position })),
        core.accept(messageTo([DEVICE])),
      ]),
    ),
  )
  t.equal(new Set(all.map(({ id }) => id)).size, all.length)
  for (const { id } of all)
    t.ok(Math.abs(timeOfId(id) - now) < 1_000, 'the time in the id is near the time of acceptance')
})

t.test('a message whose block of ids could not be claimed is refused, and accepted at the next attempt', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const position = positionOf(world, 7)
  world.sim.faults.refuseAppend = 1
  await t.rejects(world.advanceUntil(core.accept(messageTo([DEVICE], { position }))), { code: 'unavailable' })
  world.sim.heal()
  t.ok(await world.advanceUntil(core.accept(messageTo([DEVICE], { position }))))
})

t.test('accepting a message with two targets from a stream position rejects as internal', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const position = positionOf(world, 7)
  const twoTargets = messageTo([DEVICE, deviceName(2)], { position })
  await t.rejects(world.advanceUntil(core.accept(twoTargets)), { code: 'internal' })
})
