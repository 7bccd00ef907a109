/** What a sender sees of its messages: what a target waits for, and the newest messages page by page. */
import t from 'tap'
import { Outcome } from '../../protocol/envelope.js'
import { Bucket } from '../../protocol/subjects.js'
import { SessionTable } from '../../src/store/sessions.js'
import { command, deviceName, eventually, PROJECT, targetOf } from '../support/core.js'
import { type SimCore, SimInstallation } from '../support/sim-core.js'

async function waiting(place: SimInstallation, core: SimCore, id: bigint) {
  return (await place.run(core.readStatus(id)))?.waiting
}

t.test('what a target waits for', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const send = async (device: string) => (await place.run(core.accept(command([device])))).id
  const never = deviceName(1)
  const absent = await send(never)
  await place.run(core.acknowledged(never, absent))
  t.same(await waiting(place, core, absent), [{ target: `${never}/1`, why: 'offline' }], 'it never connected')

  const left = deviceName(2)
  const revision = await place.run(worker.connect(left))
  const sessions = new SessionTable(place.sim.brokerFor('w').table(Bucket.SESSIONS), place.sim.clock)
  const session = await place.run(sessions.lookup(left, { authoritative: true }))
  if (!session) return t.fail('there is a session')
  await place.run(sessions.close(left, session, revision))
  const sinceMs = place.sim.clock.now()
  const away = await send(left)
  await place.run(core.acknowledged(left, away))
  const [first] = (await waiting(place, core, away)) ?? []
  t.match(first, { why: 'offline' })
  t.ok(Math.abs((first?.sinceMs ?? 0) - sinceMs) < 100, 'since it left')

  const full = deviceName(3)
  await place.run(worker.connect(full))
  worker.onItem = () => Outcome.WINDOW_FULL
  const late = await send(full)
  await place.run(core.acknowledged(full, late))
  t.match(await waiting(place, core, late), [{ why: 'window_full' }])

  worker.onItem = () => 'silent'
  const silent = await send(full)
  await place.sim.clock.run(50)
  t.match(await waiting(place, core, silent), [{ why: 'not_acknowledged' }], 'under way')
  await place.run(core.acknowledged(full, silent))
  t.match(await waiting(place, core, silent), [{ why: 'not_acknowledged' }], 'queued since')

  worker.onItem = () => Outcome.ACKED
  const several = await place.run(core.accept({ ...command([never, full]), type: 'devices' }))
  const status = await place.run(
    eventually(place.sim.clock, 'the end of one', async () => {
      const now = await core.readStatus(several.id)
      return now?.counts.delivered === 1 && now.waiting[0]?.why === 'offline' ? now : null
    }),
  )
  t.match(status.waiting, [{ target: `${never}/1`, why: 'offline' }])
})

t.test('what route has not seen is queued', async (t) => {
  const place = new SimInstallation()
  const core = await place.core({ routing: false })
  const { id, acceptedAtMs } = await place.run(core.accept(command([deviceName(1)])))
  t.match(await waiting(place, core, id), [{ why: 'routing', sinceMs: acceptedAtMs }])
})

t.test('the newest messages are listed, also after a crash of the fold', async (t) => {
  const place = new SimInstallation({ faults: { latencyMs: [1, 5] } })
  const worker = place.worker()
  const core = await place.core({ recentMax: 8, counting: false })
  let fold = await place.core({ recentMax: 8, routing: false, expiring: false, settling: false })
  const online = deviceName(1)
  await place.run(worker.connect(online))
  const listed = (project: string, size: number, page = { before: null as bigint | null, limit: 100 }) =>
    place.run(
      eventually(place.sim.clock, `${size} in the list`, async () => {
        const list = await fold.listMessages(project, page)
        return list.length === size ? list : null
      }),
    )
  const ids: bigint[] = []
  for (let n = 0; n < 3; n++) ids.push((await place.run(core.accept(command([online])))).id)
  const many = await place.run(core.accept({ ...command([online, deviceName(2)]), type: 'devices' }))
  fold.process.crash()
  fold = await place.core({ recentMax: 8, routing: false, expiring: false, settling: false })
  const group = { kind: 'topic' as const, name: 'news' }
  const topic = await place.run(core.accept(command([], { type: 'topic', targets: [], group })))
  await place.run(core.accept(command([online], { project: 'other', targets: [targetOf(online)] })))
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

  for (let n = 0; n < 8; n++) ids.push((await place.run(core.accept(command([online])))).id)
  const newest = ids.at(-1)
  await place.run(
    eventually(place.sim.clock, 'the newest', async () => {
      const list = await fold.listMessages(PROJECT, { before: null, limit: 100 })
      return list[0]?.id === newest ? list : null
    }),
  )
  t.ok((await listed(PROJECT, 8)).length === 8, 'the oldest are forgotten')
})
