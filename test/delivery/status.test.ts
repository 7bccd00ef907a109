/** The status of messages: the reason why a target waits, and the list of the newest messages. */
import t from 'tap'
import { Report } from '../../protocol/envelope.js'
import { Bucket } from '../../protocol/subjects.js'
import { createIsConnected } from '../../src/core/delivery/query/presence.js'
import { SessionTable } from '../../src/store/sessions.js'
import { deviceName, eventually, messageTo, PROJECT, targetOf } from '../support/core.js'
import { type SimCore, SimInstallation } from '../support/sim-core.js'

async function waiting(world: SimInstallation, core: SimCore, id: bigint) {
  return (await world.advanceUntil(core.readStatus(id)))?.waiting
}

/** A core and a worker, and `send`, which accepts a message to one device and resolves with its id. */
async function coreAndWorker() {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const send = async (device: string) => (await world.advanceUntil(core.accept(messageTo([device])))).id
  return { world, worker, core, send }
}

t.test('a target whose device never connected waits as offline', async (t) => {
  const { world, core, send } = await coreAndWorker()
  const never = deviceName(1)
  const absent = await send(never)
  await world.advanceUntil(core.acknowledged(never, absent))
  t.same(await waiting(world, core, absent), [{ target: `${never}/1`, why: 'offline' }])
})

t.test('a target whose device left waits as offline since then', async (t) => {
  const { world, worker, core, send } = await coreAndWorker()
  const left = deviceName(2)
  const revision = await world.advanceUntil(worker.connect(left))
  const sessions = new SessionTable(world.sim.brokerFor('w').table(Bucket.SESSIONS), world.sim.clock)
  const session = await world.advanceUntil(sessions.lookup(left, { authoritative: true }))
  if (!session) return t.fail('a session is expected')
  await world.advanceUntil(sessions.close(left, session, revision))
  const sinceMs = world.sim.clock.now()
  const away = await send(left)
  await world.advanceUntil(core.acknowledged(left, away))
  const [first] = (await waiting(world, core, away)) ?? []
  t.match(first, { why: 'offline' })
  t.ok(Math.abs((first?.sinceMs ?? 0) - sinceMs) < 100, 'since it left')
})

t.test('a target that the worker refused for a full window waits as window_full', async (t) => {
  const { world, worker, core, send } = await coreAndWorker()
  const full = deviceName(3)
  await world.advanceUntil(worker.connect(full))
  worker.onItem = () => Report.WINDOW_FULL
  const late = await send(full)
  await world.advanceUntil(core.acknowledged(full, late))
  t.match(await waiting(world, core, late), [{ why: 'window_full' }])
})

t.test('a target that the device does not acknowledge waits as not_acknowledged, also once it is queued', async (t) => {
  const { world, worker, core, send } = await coreAndWorker()
  const device = deviceName(3)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => 'silent'
  const silent = await send(device)
  await world.sim.clock.advance(50)
  t.match(await waiting(world, core, silent), [{ why: 'not_acknowledged' }], 'while the worker has it')
  await world.advanceUntil(core.acknowledged(device, silent))
  t.match(await waiting(world, core, silent), [{ why: 'not_acknowledged' }], 'once it is queued')
})

t.test('a target waits as offline from the moment at which its device left, or its worker died', async (t) => {
  const { world, worker, core, send } = await coreAndWorker()
  const device = deviceName(3)
  await world.advanceUntil(worker.connect(device))
  worker.onItem = () => Report.CLOSED
  worker.onCatchUp = () => 'not_here'
  worker.onPresence = () => 'not_here'
  const id = await send(device)
  await world.advanceUntil(core.acknowledged(device, id))
  t.same(await waiting(world, core, id), [{ target: `${device}/1`, why: 'offline' }], 'its session record still lives')
  worker.onPresence = () => 'silent'
  t.match(await waiting(world, core, id), [{ why: 'not_acknowledged' }], 'nobody knows')
  worker.die()
  t.match(await waiting(world, core, id), [{ why: 'offline' }])
})

t.test(
  'a device that has moved to another worker is connected, although its earlier worker does not have it',
  async (t) => {
    const world = new SimInstallation()
    const [earlier, later] = [world.worker('earlier'), world.worker('later')]
    const device = deviceName(3)
    const sessions = new SessionTable(world.sim.brokerFor('core').table(Bucket.SESSIONS), world.sim.clock)
    const session = async () => {
      const found = await world.advanceUntil(sessions.lookup(device, { authoritative: true }))
      if (!found) throw new RangeError('no session')
      return found
    }
    await world.advanceUntil(earlier.connect(device))
    const old = await session()
    const isConnected = createIsConnected(world.sim.brokerFor('core').bus, sessions)
    earlier.onPresence = () => 'not_here'
    t.equal(await world.advanceUntil(isConnected(device, old)), false, 'nobody has it')
    await world.advanceUntil(later.connect(device))
    t.equal(await world.advanceUntil(isConnected(device, old)), true)
    later.onPresence = () => 'not_here'
    t.equal(await world.advanceUntil(isConnected(device, old)), false)
  },
)

t.test('of a message to several devices only the targets that have not ended wait', async (t) => {
  const { world, worker, core } = await coreAndWorker()
  const [never, online] = [deviceName(1), deviceName(3)]
  await world.advanceUntil(worker.connect(online))
  const several = await world.advanceUntil(core.accept({ ...messageTo([never, online]), type: 'devices' }))
  const status = await world.advanceUntil(
    eventually(world.sim.clock, 'the delivery to the connected device', async () => {
      const now = await core.readStatus(several.id)
      return now?.counts.delivered === 1 && now.waiting[0]?.why === 'offline' ? now : null
    }),
  )
  t.match(status.waiting, [{ target: `${never}/1`, why: 'offline' }])
})

t.test('a target that no router has taken yet waits as routing since its acceptance', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ routing: false })
  const { id, acceptedAtMs } = await world.advanceUntil(core.accept(messageTo([deviceName(1)])))
  t.match(await waiting(world, core, id), [{ why: 'routing', sinceMs: acceptedAtMs }])
})

/** Settings of the core that folds the events into a list of the newest 8 messages, and does nothing else. */
const foldOnly = { recentMax: 8, routing: false, expiring: false, settling: false }
async function listedBy(
  world: SimInstallation,
  fold: SimCore,
  project: string,
  size: number,
  page = { before: null as bigint | null, limit: 100 },
) {
  return world.advanceUntil(
    eventually(world.sim.clock, `${size} in the list`, async () => {
      const list = await fold.listMessages(project, page)
      return list.length === size ? list : null
    }),
  )
}

t.test('the list of the newest messages, of a core that crashed while it counted', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [1, 5] } })
  const worker = world.worker()
  const core = await world.core({ recentMax: 8, counting: false })
  let fold = await world.core(foldOnly)
  const online = deviceName(1)
  await world.advanceUntil(worker.connect(online))
  const ids: bigint[] = []
  for (let n = 0; n < 3; n++) ids.push((await world.advanceUntil(core.accept(messageTo([online])))).id)
  const several = await world.advanceUntil(core.accept({ ...messageTo([online, deviceName(2)]), type: 'devices' }))
  fold.process.crash()
  fold = await world.core(foldOnly)
  const group = { kind: 'topic' as const, name: 'news' }
  const topic = await world.advanceUntil(core.accept(messageTo([], { type: 'topic', targets: [], group })))
  await world.advanceUntil(core.accept(messageTo([online], { project: 'other', targets: [targetOf(online)] })))
  const all = await listedBy(world, fold, PROJECT, 5)

  await t.test('has each message once, the newest first', async (t) => {
    const expected = [topic.id, several.id, ...ids].sort((a, b) => (a < b ? 1 : -1))
    t.same(
      all.map(({ id }) => id),
      expected,
    )
  })

  await t.test('has type and status, but no status for a group message', async (t) => {
    const entryOf = (wanted: bigint | undefined) => all.find(({ id }) => id === wanted)
    t.match(entryOf(several.id), { type: 'devices' })
    t.notOk('status' in (entryOf(topic.id) ?? {}))
    t.match(entryOf(ids[0]), { type: 'device', status: 'delivered' })
  })

  await t.test('can be read in pages', async (t) => {
    const first = await listedBy(world, fold, PROJECT, 2, { before: null, limit: 2 })
    const next = await listedBy(world, fold, PROJECT, 3, { before: first.at(-1)?.id ?? null, limit: 3 })
    t.same([...first, ...next], all)
  })

  await t.test('of another project has the messages of that project', async (t) => {
    t.equal((await listedBy(world, fold, 'other', 1)).length, 1)
  })
})

t.test('a full list of messages loses the oldest when a new one is added', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [1, 5] } })
  const worker = world.worker()
  const core = await world.core({ recentMax: 8, counting: false })
  const fold = await world.core(foldOnly)
  const online = deviceName(1)
  await world.advanceUntil(worker.connect(online))
  const ids: bigint[] = []
  for (let n = 0; n < 13; n++) ids.push((await world.advanceUntil(core.accept(messageTo([online])))).id)
  const newest = ids.at(-1)
  await world.advanceUntil(
    eventually(world.sim.clock, 'the newest', async () => {
      const list = await fold.listMessages(PROJECT, { before: null, limit: 100 })
      return list[0]?.id === newest ? list : null
    }),
  )
  t.same(
    (await listedBy(world, fold, PROJECT, 8)).map(({ id }) => id),
    ids.slice(-8).reverse(),
  )
})
