/** BROADCAST, the log of group messages, is replaced by a new log while the worker is disconnected from NATS. */
import t from 'tap'
import { Close } from '../../../protocol/close-codes.js'
import { BROADCAST_STREAM } from '../../../protocol/subjects.js'
import type { Broker, Log } from '../../../src/nats/broker.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf } from './one-worker-groups.js'

/** The worker's view of BROADCAST: a test can replace the log by a newer one, and act when a tail of it begins. */
class ReplaceableLog {
  /** The number of times that the log was replaced: it raises the incarnation. */
  replacements = 0
  tails = 0
  beforeTail = () => {}

  over(broker: Broker): Broker {
    return overriding(broker, {
      log: (name) => (name === BROADCAST_STREAM ? this.overLog(broker.log(name)) : broker.log(name)),
    })
  }

  private overLog(log: Log): Log {
    return overriding(log, {
      state: async () => {
        const state = await log.state()
        return { ...state, incarnation: state.incarnation + this.replacements }
      },
      tail: async (options, handler) => {
        this.beforeTail()
        const tail = await log.tail(options, handler)
        this.tails++
        return tail
      },
    })
  }
}

function stageOf(broadcast: ReplaceableLog) {
  // The worker reconnects before it would repeat a failed attempt by itself. An audit would close the device too.
  const faults = { reconnectMs: [50, 100] as const }
  return oneWorker({ settings: { auditMs: 86_400_000 }, faults, over: (broker) => broadcast.over(broker) })
}

t.test('a worker tails the new log and closes its devices, although it disconnects again meanwhile', async (t) => {
  const broadcast = new ReplaceableLog()
  const stage = await stageOf(broadcast)
  const { clock, broker, connect } = stage
  const { subscribe, send } = groupsOf(stage)
  const phone = connect()
  await clock.advance(100)
  await subscribe('a')
  await clock.advance(1_000)
  t.equal(broadcast.tails, 1)
  const before = cursors(phone).at(-1)

  broadcast.replacements = 1
  let losses = 0
  broadcast.beforeTail = () => {
    broadcast.beforeTail = () => {}
    losses++
    broker.cutOff()
  }
  broker.cutOff()
  await clock.advance(20_000)
  t.equal(losses, 1, 'the connection was lost while the new tail began')
  t.equal(broadcast.tails, 2, 'one more tail, of the new log')
  t.same(phone.closes, [Close.unavailable.code], 'the cursor of the device belongs to the old log')

  const again = connect(null, stage.device, 2)
  await clock.advance(1_000)
  t.equal(cursors(again).at(-1)?.incarnation, (before?.incarnation ?? 0n) + 1n)
  await send('a', 1n)
  await clock.advance(1_000)
  t.same(groupIds(again), [1n], 'messages of the new log are delivered')
  await stage.stop()
})

t.test('after a reconnect to the same log, the tail goes on and no device is closed', async (t) => {
  const broadcast = new ReplaceableLog()
  const stage = await stageOf(broadcast)
  const { clock, broker, connect } = stage
  const phone = connect()
  await clock.advance(100)
  broker.cutOff()
  await clock.advance(20_000)
  t.equal(broadcast.tails, 1)
  t.same(phone.closes, [])
  await stage.stop()
})
