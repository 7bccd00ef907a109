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

t.test('a session is taken over only by a greater connection number', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 5)))
  t.match(first, { ok: true, previous: null })
  t.match(await run(sessions.claim(DEVICE, owner('b', 5))), { ok: false, connection: 5 }, 'equal, of another worker')
  t.match(await run(sessions.claim(DEVICE, owner('b', 4))), { ok: false, connection: 5 })
  t.match(await run(sessions.claim(DEVICE, owner('a', 5))), { ok: true }, 'its own session again')
  const second = await run(sessions.claim(DEVICE, owner('b', 6)))
  t.match(second, { ok: true, previous: { worker: 'a', connection: 5, live: true } })
  t.match(await run(sessions.lookup(DEVICE, { authoritative: true })), { worker: 'b', connection: 6, live: true })
})

t.test('the fence: a newer token wins, an older one is over, a number rises by a step at most', async (t) => {
  const at = (tokenIssuedAtMs: number, connection: number) => ({ tokenIssuedAtMs, connection })
  const brick = Number.MAX_SAFE_INTEGER
  for (const [next, before, expected] of [
    [at(5, 1), null, null],
    [at(5, CONNECTION_FIRST_MAX), null, null],
    [at(5, CONNECTION_FIRST_MAX + 1), null, 'connection_ahead'],
    [at(5, 2), at(5, 1), null],
    [at(5, 1), at(5, 1), 'stale_connection'],
    [at(5, 1 + CONNECTION_STEP), at(5, 1), null],
    [at(5, 2 + CONNECTION_STEP), at(5, 1), 'connection_ahead'],
    [at(5, brick), at(5, 1), 'connection_ahead'],
    [at(6, 1), at(5, brick), null],
    [at(6, 7), at(5, 9), null],
    [at(5, 10), at(6, 1), 'token_expired'],
    [at(5, 3), { connection: 9 }, 'stale_connection'],
    [at(5, 10), { connection: 9 }, null],
    [{ connection: 10 }, { connection: 9 }, null],
    [{ connection: 10 }, at(5, 9), null],
    [{ connection: 9 }, at(5, 9), 'stale_connection'],
    [at(6, brick), at(5, brick - 1), null],
  ] as const) {
    t.equal(refusalOf(next, before), expected, `${JSON.stringify(next)} after ${JSON.stringify(before)}`)
  }
})

t.test('a delayed write of an older token loses in the table, and a reset forgets what was used', async (t) => {
  const { sessions, run } = table()
  const late = await run(sessions.claim(DEVICE, { ...owner('a', 900), tokenIssuedAtMs: 5_000 }))
  if (!late.ok) throw new Error('claimed')
  const renewed = { ...owner('b', 8), tokenIssuedAtMs: 6_000 }
  t.match(await run(sessions.claim(DEVICE, renewed, late.revision)), { ok: true })
  const behind = { ...owner('a', 901), tokenIssuedAtMs: 5_000 }
  t.match(await run(sessions.claim(DEVICE, behind, late.revision)), { ok: false, reason: 'token_expired' })
  t.match(await run(sessions.claim(DEVICE, renewed)), { ok: true }, 'its own session again')
  t.match(await run(sessions.reset(DEVICE)), { live: true, worker: 'b', connection: 8 })
  t.match(await run(sessions.claim(DEVICE, { ...owner('c', 1), tokenIssuedAtMs: 5_000 })), { ok: true })
})

t.test('a tombstone keeps the number, and only ends its own session', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 5)))
  if (!first.ok) throw new Error('claimed')
  const second = await run(sessions.claim(DEVICE, owner('b', 6)))
  if (!second.ok) throw new Error('claimed')
  t.equal(await run(sessions.close(DEVICE, owner('a', 5), first.revision)), false, 'too late: it is the next one')
  t.equal(await run(sessions.close(DEVICE, owner('b', 6), second.revision)), true)
  t.match(await run(sessions.lookup(DEVICE, { authoritative: true })), { live: false, connection: 6 })
  t.match(
    await run(sessions.claim(DEVICE, owner('b', 6))),
    { ok: false, connection: 6 },
    'an ended session stays ended',
  )
  t.match(await run(sessions.claim(DEVICE, owner('b', 7))), { ok: true })
})

t.test('a known revision saves the read; a wrong one is found out', async (t) => {
  const { sessions, run } = table()
  const first = await run(sessions.claim(DEVICE, owner('a', 1)))
  if (!first.ok) throw new Error('claimed')
  const second = await run(sessions.claim(DEVICE, owner('b', 2), first.revision))
  t.match(second, { ok: true, previous: null })
  const third = await run(sessions.claim(DEVICE, owner('c', 3), first.revision))
  t.match(third, { ok: true, previous: { worker: 'b' } })
  t.match(await run(sessions.claim(DEVICE, owner('d', 2), first.revision)), { ok: false, connection: 3 })
  t.match(await run(sessions.claim('dev_other', owner('d', 2), 77)), { ok: true }, 'the table was lost')
})

t.test('two claims at once: the greater number stands in the end', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const sim = new SimBroker({ seed })
    const [a, b] = ['a', 'b'].map((name) => {
      const broker = sim.brokerFor(name)
      return new SessionTable(broker.table(Bucket.SESSIONS), broker.clock)
    })
    if (!a || !b) throw new Error('two')
    await sim.clock.advanceUntil(Promise.all([a.claim(DEVICE, owner('a', 1)), b.claim(DEVICE, owner('b', 2))]))
    t.match(await sim.clock.advanceUntil(a.lookup(DEVICE, { authoritative: true })), { connection: 2 })
  }
})

t.test('a lease: alive while it beats, dead at once when released, dead after the lease when silent', async (t) => {
  const sim = new SimBroker()
  const worker = sim.brokerFor('worker')
  const core = sim.brokerFor('core')
  let lapses = 0
  const lease = new WorkerLease(worker, worker.clock, 'i', 'w', { lapse: () => lapses++, error: () => {} })
  const liveness = new WorkerLiveness(core, core.clock)
  await sim.clock.advanceUntil(Promise.all([lease.start(), liveness.start()]))
  await sim.clock.advance(60_000)
  t.notOk(liveness.isDead('i', 'w'))
  t.equal(lapses, 0)
  worker.freeze()
  await sim.clock.advance(8_000)
  t.notOk(liveness.isDead('i', 'w'))
  await sim.clock.advance(8_000)
  t.ok(liveness.isDead('i', 'w'))
  worker.thaw()
  await sim.clock.advance(8_000)
  t.notOk(liveness.isDead('i', 'w'), 'it is back')
  t.ok(lapses > 0, 'and knows that it was away')
  await sim.clock.advanceUntil(lease.release())
  await sim.clock.advance(1_000)
  t.ok(liveness.isDead('i', 'w'))
  await liveness.stop()
})

t.test('a reader that was frozen or cut off does not take everyone for dead', async (t) => {
  const sim = new SimBroker()
  const worker = sim.brokerFor('worker')
  const core = sim.brokerFor('core')
  const lease = new WorkerLease(worker, worker.clock, 'i', 'w', { lapse: () => {}, error: () => {} })
  const liveness = new WorkerLiveness(core, core.clock)
  await sim.clock.advanceUntil(Promise.all([lease.start(), liveness.start()]))
  core.freeze()
  await sim.clock.advance(120_000)
  core.thaw()
  let wasCalledDead = false
  for (let i = 0; i < 100; i++) {
    await sim.clock.advance(100)
    wasCalledDead ||= liveness.isDead('i', 'w')
  }
  t.notOk(wasCalledDead)
  t.notOk(liveness.isDead('i', 'never-seen'), 'who was never seen gets a lease of time')
  await sim.clock.advance(12_000)
  t.ok(liveness.isDead('i', 'never-seen'))
  await sim.clock.advanceUntil(lease.release())
  await liveness.stop()
})
