/** A worker learns of a change of a device's groups while an answer with the older groups is still on its way to it. */
import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import type { Broker, Table } from '../../../src/nats/broker.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf } from './one-worker-groups.js'

/** While `isHolding`, reads of DEVICES see the record of the time of their request, and answer at letGo(). */
class LateAnswers {
  isHolding = false
  private readonly held: (() => void)[] = []

  over(broker: Broker): Broker {
    return overriding(broker, {
      table: (name) => (name === Bucket.DEVICES ? this.late(broker.table(name)) : broker.table(name)),
    })
  }

  get waiting(): number {
    return this.held.length
  }

  letGo(): void {
    this.isHolding = false
    for (const answer of this.held.splice(0)) answer()
  }

  private late(table: Table): Table {
    return overriding(table, {
      get: async (key, options) => {
        const entry = await table.get(key, options)
        if (this.isHolding) await new Promise<void>((resolve) => this.held.push(resolve))
        return entry
      },
    })
  }
}

async function lateStage() {
  const answers = new LateAnswers()
  // Without audits: they would find the change too.
  const stage = await oneWorker({ settings: { auditMs: 86_400_000 }, over: (broker) => answers.over(broker) })
  return { answers, ...stage, ...groupsOf(stage) }
}

t.test('a refresh notice during a handshake reads the groups again after WELCOME', async (t) => {
  const { answers, clock, connect, send, subscribe, stop } = await lateStage()
  answers.isHolding = true
  const phone = connect()
  await clock.advance(100)
  t.equal(answers.waiting, 1, 'the handshake has read the older groups')
  await subscribe('a')
  await clock.advance(100)
  t.same(phone.frames, [], 'the handshake is not over')
  answers.letGo()
  await clock.advance(100)
  t.match(phone.frames[0], { type: 'WELCOME', subscriptions: 0 })
  t.match(cursors(phone).at(-1), { subscriptions: 1 })
  await send('a', 1n)
  await clock.advance(100)
  t.same(groupIds(phone), [1n])
  await stop()
})

t.test('a second refresh notice during the read of the first one reads the groups again', async (t) => {
  const { answers, clock, connect, notice, send, subscribe, stop } = await lateStage()
  const phone = connect()
  await clock.advance(100)
  t.match(cursors(phone), [{ subscriptions: 0 }])
  answers.isHolding = true
  // The groups have not changed yet, as with a notice from an audit.
  notice()
  await clock.advance(100)
  t.equal(answers.waiting, 1)
  await subscribe('a')
  await clock.advance(100)
  answers.letGo()
  await clock.advance(100)
  t.match(cursors(phone), [{ subscriptions: 0 }, { subscriptions: 1 }])
  await send('a', 1n)
  await clock.advance(100)
  t.same(groupIds(phone), [1n])
  await stop()
})

t.test('a failed read of the groups is repeated until it succeeds, and the device stays connected', async (t) => {
  const store = { isAway: false, reads: 0 }
  const late = (table: Table) =>
    overriding(table, {
      get: async (key, options) => {
        if (!store.isAway) return table.get(key, options)
        store.reads++
        throw new Error('no answer in time')
      },
    })
  const over = (broker: Broker) =>
    overriding(broker, { table: (name) => (name === Bucket.DEVICES ? late(broker.table(name)) : broker.table(name)) })
  const stage = await oneWorker({ settings: { auditMs: 86_400_000 }, over })
  const { clock, connect, stop } = stage
  const { notice, subscribe } = groupsOf(stage)
  const phone = connect()
  await clock.advance(100)
  store.isAway = true
  await subscribe('a')
  notice()
  await clock.advance(5_000)
  t.ok(store.reads > 2, `${store.reads} reads`)
  t.same(phone.closes, [])
  t.match(cursors(phone), [{ subscriptions: 0 }])
  store.isAway = false
  await clock.advance(5_000)
  t.match(cursors(phone), [{ subscriptions: 0 }, { subscriptions: 1 }])
  const { reads } = store
  await clock.advance(5_000)
  t.equal(store.reads, reads, 'no further read after the successful one')
  await stop()
})
