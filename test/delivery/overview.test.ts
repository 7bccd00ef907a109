/** What a sender sees of its messages: what a target waits for, and the newest messages page by page. */
import t from 'tap'
import { Report } from '../../protocol/envelope.js'
import { Bucket } from '../../protocol/subjects.js'
import { SessionTable } from '../../src/store/sessions.js'
import { deviceName, eventually, messageTo, PROJECT, targetOf } from '../support/core.js'
import { type SimCore, SimInstallation } from '../support/sim-core.js'

async function waiting(world: SimInstallation, core: SimCore, id: bigint) {
  return (await world.advanceUntil(core.readStatus(id)))?.waiting
}

t.test('what a target waits for', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const send = async (device: string) => (await world.advanceUntil(core.accept(messageTo([device])))).id
  const never = deviceName(1)
  const absent = await send(never)
  await world.advanceUntil(core.acknowledged(never, absent))
  t.same(await waiting(world, core, absent), [{ target: `${never}/1`, why: 'offline' }], 'it never connected')

  const left = deviceName(2)
  const revision = await world.advanceUntil(worker.connect(left))
  const sessions = new SessionTable(world.sim.brokerFor('w').table(Bucket.SESSIONS), world.sim.clock)
  const session = await world.advanceUntil(sessions.lookup(left, { authoritative: true }))
  if (!session) return t.fail('there is a session')
  await world.advanceUntil(sessions.close(left, session, revision))
  const sinceMs = world.sim.clock.now()
  const away = await send(left)
  await world.advanceUntil(core.acknowledged(left, away))
  const [first] = (await waiting(world, core, away)) ?? []
  t.match(first, { why: 'offline' })
  t.ok(Math.abs((first?.sinceMs ?? 0) - sinceMs) < 100, 'since it left')

  const full = deviceName(3)
  await world.advanceUntil(worker.connect(full))
  worker.onItem = () => Report.WINDOW_FULL
  const late = await send(full)
  await world.advanceUntil(core.acknowledged(full, late))
  t.match(await waiting(world, core, late), [{ why: 'window_full' }])

  worker.onItem = () => 'silent'
  const silent = await send(full)
  await world.sim.clock.advance(50)
  t.match(await waiting(world, core, silent), [{ why: 'not_acknowledged' }], 'under way')
  await world.advanceUntil(core.acknowledged(full, silent))
  t.match(await waiting(world, core, silent), [{ why: 'not_acknowledged' }], 'queued since')

  worker.onItem = () => Report.ACKED
  const several = await world.advanceUntil(core.accept({ ...messageTo([never, full]), type: 'devices' }))
  const status = await world.advanceUntil(
    eventually(world.sim.clock, 'the end of one', async () => {
      const now = await core.readStatus(several.id)
      return now?.counts.delivered === 1 && now.waiting[0]?.why === 'offline' ? now : null
    }),
  )
  t.match(status.waiting, [{ target: `${never}/1`, why: 'offline' }])
})

t.test('what route has not seen is queued', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ routing: false })
  const { id, acceptedAtMs } = await world.advanceUntil(core.accept(messageTo([deviceName(1)])))
  t.match(await waiting(world, core, id), [{ why: 'routing', sinceMs: acceptedAtMs }])
})

t.test('the newest messages are listed, also after a crash of the fold', async (t) => {
  const world = new SimInstallation({ faults: { latencyMs: [1, 5] } })
  const worker = world.worker()
  const core = await world.core({ recentMax: 8, counting: false })
  let fold = await world.core({ recentMax: 8, routing: false, expiring: false, settling: false })
  const online = deviceName(1)
  await world.advanceUntil(worker.connect(online))
  const listed = (project: string, size: number, page = { before: null as bigint | null, limit: 100 }) =>
    world.advanceUntil(
      eventually(world.sim.clock, `${size} in the list`, async () => {
        const list = await fold.listMessages(project, page)
        return list.length === size ? list : null
      }),
    )
  const ids: bigint[] = []
  for (let n = 0; n < 3; n++) ids.push((await world.advanceUntil(core.accept(messageTo([online])))).id)
  const many = await world.advanceUntil(core.accept({ ...messageTo([online, deviceName(2)]), type: 'devices' }))
  fold.process.crash()
  fold = await world.core({ recentMax: 8, routing: false, expiring: false, settling: false })
  const group = { kind: 'topic' as const, name: 'news' }
  const topic = await world.advanceUntil(core.accept(messageTo([], { type: 'topic', targets: [], group })))
  await world.advanceUntil(core.accept(messageTo([online], { project: 'other', targets: [targetOf(online)] })))
  const all = await listed(PROJECT, 5)
  const expected = [topic.id, many.id, ...[...ids].reverse()].sort((a, b) => (a < b ? 1 : -1))
  t.same(
    all.map(({ id }) => id),
    expected,
    'newest first, each once',
  )
  t.match(
    all.find(({ id }) => id === many.id),
    { type: 'devices' },
  )
  t.notOk('status' in (all.find(({ id }) => id === topic.id) ?? {}))
  t.match(
    all.find(({ id }) => id === ids[0]),
    { type: 'device', status: 'delivered' },
  )
  const first = await listed(PROJECT, 2, { before: null, limit: 2 })
  const next = await listed(PROJECT, 3, { before: first.at(-1)?.id ?? null, limit: 3 })
  t.same([...first, ...next], all, 'page by page')
  t.equal((await listed('other', 1)).length, 1, 'for itself')

  for (let n = 0; n < 8; n++) ids.push((await world.advanceUntil(core.accept(messageTo([online])))).id)
  const newest = ids.at(-1)
  await world.advanceUntil(
    eventually(world.sim.clock, 'the newest', async () => {
      const list = await fold.listMessages(PROJECT, { before: null, limit: 100 })
      return list[0]?.id === newest ? list : null
    }),
  )
  t.ok((await listed(PROJECT, 8)).length === 8, 'the oldest are forgotten')
})
