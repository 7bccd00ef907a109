import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import { CONNECTION_FIRST_MAX, CONNECTION_STEP, refusalOf, SessionTable } from '../../../src/store/sessions.js'
import { WorkerLease, WorkerLiveness } from '../../../src/store/workers.js'
import { SimBroker } from '../../sim/broker.js'

const DEVICE = 'dev_00000000000000000000'
const owner = (worker: string, connection: number) => ({ instance: 'i', worker, connection })

function table(): { sim: SimBroker; sessions: SessionTable; run: <T>(p: Promise<T>) => Promise<T> } {
  const sim = new SimBroker()
  const broker = sim.brokerFor('worker')
  const sessions = new SessionTable(broker.table(Bucket.SESSIONS), broker.clock)
  return { sim, sessions, run: (promise) => sim.clock.advanceUntil(promise) }
}

t.test('a session is taken over only by a connection with a greater number', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 5)))
  t.match(first, { ok: true, previous: null })
  t.match(
    await run(sessions.claim(DEVICE, owner('b', 5))),
    { ok: false, connection: 5 },
    'the same number at another worker',
  )
  t.match(await run(sessions.claim(DEVICE, owner('b', 4))), { ok: false, connection: 5 })
  t.match(
    await run(sessions.claim(DEVICE, owner('a', 5))),
    { ok: true },
    'the worker that has the session claims it again',
  )
  const second = await run(sessions.claim(DEVICE, owner('b', 6)))
  t.match(second, { ok: true, previous: { worker: 'a', connection: 5, live: true } })
  t.match(await run(sessions.lookup(DEVICE, { authoritative: true })), { worker: 'b', connection: 6, live: true })
})

t.test('the fence prefers a newer token, then a greater number, which may rise by one step at most', async (t) => {
  const at = (tokenIssuedAtMs: number, connection: number) => ({ tokenIssuedAtMs, connection })
  const numberMax = Number.MAX_SAFE_INTEGER
  for (const [next, before, expected] of [
    [at(5, 1), null, null],
    [at(5, CONNECTION_FIRST_MAX), null, null],
    [at(5, CONNECTION_FIRST_MAX + 1), null, 'connection_ahead'],
    [at(5, 2), at(5, 1), null],
    [at(5, 1), at(5, 1), 'stale_connection'],
    [at(5, 1 + CONNECTION_STEP), at(5, 1), null],
    [at(5, 2 + CONNECTION_STEP), at(5, 1), 'connection_ahead'],
    [at(5, numberMax), at(5, 1), 'connection_ahead'],
    [at(6, 1), at(5, numberMax), null],
    [at(6, 7), at(5, 9), null],
    [at(5, 10), at(6, 1), 'token_expired'],
    [at(5, 3), { connection: 9 }, 'stale_connection'],
    [at(5, 10), { connection: 9 }, null],
    [{ connection: 10 }, { connection: 9 }, null],
    [{ connection: 10 }, at(5, 9), null],
    [{ connection: 9 }, at(5, 9), 'stale_connection'],
    [at(6, numberMax), at(5, numberMax - 1), null],
  ] as const) {
    t.equal(refusalOf(next, before), expected, `${JSON.stringify(next)} after ${JSON.stringify(before)}`)
  }
})

t.test('a delayed claim with an older token is refused, until the session is reset', async (t) => {
  const { sessions, run } = table()
  const late = await run(sessions.claim(DEVICE, { ...owner('a', 900), tokenIssuedAtMs: 5_000 }))
  if (!late.ok) throw new Error('the claim was refused')
  const renewed = { ...owner('b', 8), tokenIssuedAtMs: 6_000 }
  t.match(await run(sessions.claim(DEVICE, renewed, late.revision)), { ok: true })
  const behind = { ...owner('a', 901), tokenIssuedAtMs: 5_000 }
  t.match(await run(sessions.claim(DEVICE, behind, late.revision)), { ok: false, reason: 'token_expired' })
  t.match(await run(sessions.claim(DEVICE, renewed)), { ok: true }, 'the worker that has the session claims it again')
  t.match(await run(sessions.reset(DEVICE)), { live: true, worker: 'b', connection: 8 })
  t.match(await run(sessions.claim(DEVICE, { ...owner('c', 1), tokenIssuedAtMs: 5_000 })), { ok: true })
})

t.test('closing a session keeps its connection number, and leaves a newer session alone', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 5)))
  if (!first.ok) throw new Error('the claim was refused')
  const second = await run(sessions.claim(DEVICE, owner('b', 6)))
  if (!second.ok) throw new Error('the claim was refused')
  t.equal(await run(sessions.close(DEVICE, owner('a', 5), first.revision)), false, 'a newer session exists')
  t.equal(await run(sessions.close(DEVICE, owner('b', 6), second.revision)), true)
  t.match(await run(sessions.lookup(DEVICE, { authoritative: true })), { live: false, connection: 6 })
  t.match(
    await run(sessions.claim(DEVICE, owner('b', 6))),
    { ok: false, connection: 6 },
    'the number of the closed session is used',
  )
  t.match(await run(sessions.claim(DEVICE, owner('b', 7))), { ok: true })
})

t.test('a claim with the known revision skips the read, and one with a wrong revision reads', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 1)))
  if (!first.ok) throw new Error('the claim was refused')
  const second = await run(sessions.claim(DEVICE, owner('b', 2), first.revision))
  t.match(second, { ok: true, previous: null })
  const third = await run(sessions.claim(DEVICE, owner('c', 3), first.revision))
  t.match(third, { ok: true, previous: { worker: 'b' } })
  t.match(await run(sessions.claim(DEVICE, owner('d', 2), first.revision)), { ok: false, connection: 3 })
  t.match(
    await run(sessions.claim('dev_other', owner('d', 2), 77)),
    { ok: true },
    'no record, as after a loss of the table',
  )
})

t.test('of two claims at once the greater connection number wins', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const sim = new SimBroker({ seed })
    const [a, b] = ['a', 'b'].map((name) => {
      const broker = sim.brokerFor(name)
      return new SessionTable(broker.table(Bucket.SESSIONS), broker.clock)
    })
    if (!a || !b) throw new Error('two tables were expected')
    await sim.clock.advanceUntil(Promise.all([a.claim(DEVICE, owner('a', 1)), b.claim(DEVICE, owner('b', 2))]))
    t.match(await sim.clock.advanceUntil(a.lookup(DEVICE, { authoritative: true })), { connection: 2 })
  }
})

/** The lease of worker `w`, and a core that watches it. */
async function leaseWithWatcher() {
  const sim = new SimBroker()
  const worker = sim.brokerFor('worker')
  const core = sim.brokerFor('core')
  const lapses = { times: 0 }
  const lease = new WorkerLease(worker, worker.clock, 'i', 'w', { lapse: () => lapses.times++, error: () => {} })
  const liveness = new WorkerLiveness(core, core.clock)
  await sim.clock.advanceUntil(Promise.all([lease.start(), liveness.start()]))
  return { sim, worker, core, lease, liveness, lapses }
}

t.test('a worker that renews its lease counts as alive', async (t) => {
  const { sim, lease, liveness, lapses } = await leaseWithWatcher()
  await sim.clock.advance(60_000)
  t.notOk(liveness.isDead('i', 'w'))
  t.equal(lapses.times, 0)
  await sim.clock.advanceUntil(lease.release())
  await liveness.stop()
})

t.test('a frozen worker counts as dead after its lease, and a thawed one as alive; it notices the lapse', async (t) => {
  const { sim, worker, lease, liveness, lapses } = await leaseWithWatcher()
  worker.freeze()
  await sim.clock.advance(8_000)
  t.notOk(liveness.isDead('i', 'w'))
  await sim.clock.advance(8_000)
  t.ok(liveness.isDead('i', 'w'))
  worker.thaw()
  await sim.clock.advance(8_000)
  t.notOk(liveness.isDead('i', 'w'))
  t.ok(lapses.times > 0)
  await sim.clock.advanceUntil(lease.release())
  await liveness.stop()
})

t.test('a worker that releases its lease counts as dead at once', async (t) => {
  const { sim, lease, liveness } = await leaseWithWatcher()
  await sim.clock.advanceUntil(lease.release())
  await sim.clock.advance(1_000)
  t.ok(liveness.isDead('i', 'w'))
  await liveness.stop()
})

t.test('a worker that was frozen notices that its lease lapsed, even if its clock was set meanwhile', async (t) => {
  for (const skewMs of [-3_600_000, 0, 3_600_000]) {
    const sim = new SimBroker()
    const worker = sim.brokerFor('worker')
    let lapses = 0
    const on = { lapse: () => void lapses++, error: () => {} }
    const lease = new WorkerLease(worker, worker.clock, 'i', 'w', on)
    await sim.clock.advanceUntil(lease.start())
    await sim.clock.advance(10_000)
    worker.skewMs = skewMs
    await sim.clock.advance(10_000)
    t.equal(lapses, 0, 'setting the clock is no lapse')
    t.ok(lease.isHeld)
    worker.skewMs = 0
    worker.freeze()
    await sim.clock.advance(15_000)
    worker.skewMs = skewMs
    t.notOk(lease.isHeld)
    worker.thaw()
    await sim.clock.advance(5_000)
    t.equal(lapses, 1, `clock set by ${skewMs} ms`)
    t.ok(lease.isHeld)
    await sim.clock.advanceUntil(lease.release())
  }
})

t.test('a core that was frozen for two minutes does not count a living worker as dead', async (t) => {
  const { sim, core, lease, liveness } = await leaseWithWatcher()
  core.freeze()
  await sim.clock.advance(120_000)
  core.thaw()
  let wasCalledDead = false
  for (let i = 0; i < 100; i++) {
    await sim.clock.advance(100)
    wasCalledDead ||= liveness.isDead('i', 'w')
  }
  t.notOk(wasCalledDead)
  await sim.clock.advanceUntil(lease.release())
  await liveness.stop()
})

t.test('a worker that the core has never seen counts as dead after the time of a lease', async (t) => {
  const { sim, lease, liveness } = await leaseWithWatcher()
  t.notOk(liveness.isDead('i', 'never-seen'))
  await sim.clock.advance(12_000)
  t.ok(liveness.isDead('i', 'never-seen'))
  await sim.clock.advanceUntil(lease.release())
  await liveness.stop()
})
