/** The log of group messages was made anew while the worker was away from its store. */
import t from 'tap'
import { Close } from '../../../protocol/close-codes.js'
import { BROADCAST_STREAM } from '../../../protocol/subjects.js'
import type { Broker, Log } from '../../../src/nats/broker.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf } from './one-worker-groups.js'

/** The worker's BROADCAST: another log under the same name, if wanted, and something that happens as a tail of it begins. */
class Replaceable {
  /** Later than the incarnation that it had. */
  made = 0
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
        return { ...state, incarnation: state.incarnation + this.made }
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

function stageOf(broadcast: Replaceable) {
  // Back before a failed attempt is made again by itself. The audit would change what is seen here.
  const faults = { reconnectMs: [50, 100] as const }
  return oneWorker({ settings: { auditMs: 86_400_000 }, faults, over: (broker) => broadcast.over(broker) })
}

t.test('begins again, though the connection is lost a second time as it does', async (t) => {
  const broadcast = new Replaceable()
  const stage = await stageOf(broadcast)
  const { clock, broker, connect } = stage
  const { subscribe, send } = groupsOf(stage)
  const phone = connect()
  await clock.advance(100)
  await subscribe('a')
  await clock.advance(1_000)
  t.equal(broadcast.tails, 1)
  const before = cursors(phone).at(-1)

  broadcast.made = 1
  let losses = 0
  broadcast.beforeTail = () => {
    broadcast.beforeTail = () => {}
    losses++
    broker.cutOff()
  }
  broker.cutOff()
  await clock.advance(20_000)
  t.equal(losses, 1, 'lost again while it began again')
  t.equal(broadcast.tails, 2, 'one tail, of the log that is there now')
  t.same(phone.closes, [Close.unavailable.code], 'its cursor is of no use any more')

  const again = connect(null, stage.device, 2)
  await clock.advance(1_000)
  t.equal(cursors(again).at(-1)?.incarnation, (before?.incarnation ?? 0n) + 1n)
  await send('a', 1n)
  await clock.advance(1_000)
  t.same(groupIds(again), [1n], 'what is sent from now on is passed on')
  await stage.stop()
})

t.test('the same log as before: nobody is sent away, and the tail stays', async (t) => {
  const broadcast = new Replaceable()
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
