/** The query budget of a core, on virtual time. */
import t from 'tap'
import { QueryBudget, type QueryLimits } from '../../src/core/domain/query-budget.js'
import { VirtualClock } from '../sim/clock.js'

const LIMITS: QueryLimits = { queriesAtOnceMax: 4, queriesWaitingMax: 6, queriesWaitMsMax: 5_000 }

function world(limits: Partial<QueryLimits> = {}) {
  const clock = new VirtualClock()
  const budget = new QueryBudget({ ...LIMITS, ...limits }, clock, () => 0.5)
  /** The names of the queries in the order of their starts. */
  const started: string[] = []
  const open = new Map<string, () => void>()
  /** Runs a query that lasts until end(). */
  const run = (project: string, name: string, isWanted?: () => boolean) => {
    const query = () => {
      started.push(name)
      return new Promise<string>((resolve) => open.set(name, () => resolve(name)))
    }
    const answer = budget.run(project, query, isWanted)
    answer.catch(() => undefined)
    return answer
  }
  const end = async (name: string) => {
    open.get(name)?.()
    await clock.advance(0)
  }
  return { clock, budget, started, run, end }
}

t.test('one project runs at most half of the queries at once, and the other half is free for others', async (t) => {
  const { budget, started, run, end } = world()
  for (const name of ['a1', 'a2', 'a3']) run('a', name)
  run('b', 'b1')
  t.same(started, ['a1', 'a2', 'b1'])
  t.equal(budget.running, 3)
  t.equal(budget.waiting, 1)
  await end('a1')
  t.same(started, ['a1', 'a2', 'b1', 'a3'], 'the waiting query starts when a query of its project ends')
})

t.test('the projects that wait take turns, however many queries one of them has', async (t) => {
  const { started, run, end } = world({ queriesAtOnceMax: 2 })
  run('a', 'a1')
  run('b', 'b1')
  for (const name of ['a2', 'a3', 'a4']) run('a', name)
  run('c', 'c1')
  run('b', 'b2')
  t.same(started, ['a1', 'b1'])
  await end('a1')
  t.equal(started[2], 'a2')
  await end('a2')
  t.equal(started[3], 'c1', 'not a3: a had its turn')
  await end('b1')
  t.equal(started[4], 'b2')
})

t.test(
  'a query that finds the queue full is refused with the time to wait, if its project has the most queries waiting',
  async (t) => {
    const { budget, run } = world({ queriesWaitingMax: 3 })
    for (let n = 1; n <= 5; n++) run('a', `a${n}`)
    t.equal(budget.waiting, 3)
    await t.rejects(run('a', 'a6'), { code: 'overloaded', details: { retryAfterMs: 1_500 } })
    t.equal(budget.refused, 1)
  },
)

t.test(
  'a query of another project replaces the newest query of the project with the most queries waiting',
  async (t) => {
    const { budget, started, run, end } = world({ queriesAtOnceMax: 2, queriesWaitingMax: 3 })
    run('a', 'a1')
    run('b', 'b1')
    const waiting = ['a2', 'a3', 'a4'].map((name) => run('a', name))
    run('b', 'b2')
    await t.rejects(waiting[2] ?? Promise.resolve(''), { code: 'overloaded' })
    t.equal(budget.waiting, 3)
    await end('b1')
    t.equal(started.at(-1), 'b2')
  },
)

t.test('a query that waits too long is refused, and its place is free', async (t) => {
  const { clock, budget, started, run, end } = world({ queriesAtOnceMax: 1 })
  run('a', 'a1')
  const late = run('a', 'a2')
  await clock.advance(5_001)
  await t.rejects(late, { code: 'overloaded' })
  t.equal(budget.waiting, 0)
  await end('a1')
  t.same(started, ['a1'])
  run('a', 'a3')
  t.same(started, ['a1', 'a3'])
})

t.test('a query for a caller who has left does not run, and the next one does', async (t) => {
  const { started, run, end } = world({ queriesAtOnceMax: 1 })
  run('a', 'a1')
  run('a', 'a2', () => false)
  run('a', 'a3')
  await end('a1')
  t.same(started, ['a1', 'a3'])
})

t.test('a query that fails rejects as it failed, and frees its place', async (t) => {
  const { budget } = world()
  await t.rejects(
    budget.run('a', () => Promise.reject(new Error('no'))),
    { message: 'no' },
  )
  t.equal(budget.running, 0)
})

t.test('the retryAfterMs of a refused query grows with the queue, up to half a minute', async (t) => {
  const { clock, run, end } = world({ queriesAtOnceMax: 2, queriesWaitingMax: 1_000, queriesWaitMsMax: 1e9 })
  for (let n = 0; n < 20; n++) {
    run('a', `a${n}`)
    await clock.advance(2_000)
    await end(`a${n}`)
  }
  for (let n = 0; n < 1_001; n++) run('b', `b${n}`)
  await t.rejects(run('b', 'last'), { code: 'overloaded', details: { retryAfterMs: 30_000 } })
})
