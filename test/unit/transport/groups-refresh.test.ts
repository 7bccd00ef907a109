/** A change of a device's groups that its worker hears of while an older state of them is on its way. */
import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import type { Broker, Table } from '../../../src/nats/broker.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf } from './one-worker-groups.js'

/** Reads of DEVICES see what was there when they were asked, and answer when they are let go. */
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
  // The audit would find the change as well, and is not what is tested.
  const stage = await oneWorker({ settings: { auditMs: 86_400_000 }, over: (broker) => answers.over(broker) })
  return { answers, ...stage, ...groupsOf(stage) }
}

t.test('a notice during a handshake is done after WELCOME: what the handshake read is older', async (t) => {
  const { answers, clock, connect, send, subscribe, stop } = await lateStage()
  answers.isHolding = true
  const phone = connect()
  await clock.advance(100)
  t.equal(answers.waiting, 1, 'the handshake has read')
  await subscribe('a')
  await clock.advance(100)
  t.same(phone.frames, [], 'and is not over')
  answers.letGo()
  await clock.advance(100)
  t.match(phone.frames[0], { type: 'WELCOME', subscriptions: 0 })
  t.match(cursors(phone).at(-1), { subscriptions: 1 })
  await send('a', 1n)
  await clock.advance(100)
  t.same(groupIds(phone), [1n])
  await stop()
})

t.test('a notice during the look that an earlier one asked for makes it look again', async (t) => {
  const { answers, clock, connect, notice, send, subscribe, stop } = await lateStage()
  const phone = connect()
  await clock.advance(100)
  t.match(cursors(phone), [{ subscriptions: 0 }])
  answers.isHolding = true
  // As from an audit: nothing has changed yet.
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

t.test('a look that fails is repeated, and the device keeps its connection', async (t) => {
  const store = { isAway: false, asked: 0 }
  const late = (table: Table) =>
    overriding(table, {
      get: async (key, options) => {
        if (!store.isAway) return table.get(key, options)
        store.asked++
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
  t.ok(store.asked > 2, 'again and again')
  t.same(phone.closes, [])
  t.match(cursors(phone), [{ subscriptions: 0 }])
  store.isAway = false
  await clock.advance(5_000)
  t.match(cursors(phone), [{ subscriptions: 0 }, { subscriptions: 1 }])
  const { asked } = store
  await clock.advance(5_000)
  t.equal(store.asked, asked, 'and that was all')
  await stop()
})
