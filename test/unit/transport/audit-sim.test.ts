/**
 * A worker reconnects to NATS before its store answers again, on virtual time: the worker repeats a failed check soon,
 * and does not leave it to the next slow round of the audit.
 */
import t from 'tap'
import { BROADCAST_STREAM, Bucket } from '../../../protocol/subjects.js'
import { type Broker, BrokerError, type Log, type Table } from '../../../src/nats/broker.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'

/** While `down` is true, reads of the session table and of the state of BROADCAST fail. */
class LateStore {
  down = false
  refused = 0
  /** Overrides the incarnation of BROADCAST. */
  incarnation: number | null = null

  over(broker: Broker): Broker {
    return {
      bus: broker.bus,
      connected: () => broker.connected(),
      denied: () => broker.denied(),
      flush: () => broker.flush(),
      onStatus: (handler) => broker.onStatus(handler),
      close: () => broker.close(),
      table: (name) => (name === Bucket.SESSIONS ? this.lateTable(broker.table(name)) : broker.table(name)),
      log: (name) => (name === BROADCAST_STREAM ? this.lateLog(broker.log(name)) : broker.log(name)),
    }
  }

  private lateTable(table: Table): Table {
    return overriding(table, { get: (key, options) => (this.down ? this.refuse() : table.get(key, options)) })
  }

  private lateLog(log: Log): Log {
    return overriding(log, {
      state: async () => {
        if (this.down) return this.refuse()
        const state = await log.state()
        return { ...state, incarnation: this.incarnation ?? state.incarnation }
      },
    })
  }

  private refuse(): Promise<never> {
    this.refused++
    return Promise.reject(new BrokerError('unavailable', 'no leader yet'))
  }
}

async function connectedDevice() {
  const store = new LateStore()
  const stage = await oneWorker({ over: (broker) => store.over(broker) })
  const phone = stage.connect()
  await stage.clock.advance(1_000)
  return { ...stage, store, phone }
}

t.test('an audit whose reads failed is repeated within seconds, and delivers a message queued meanwhile', async (t) => {
  const { clock, store, broker, phone, enqueue, stop } = await connectedDevice()
  t.equal(phone.ofType('CAUGHT_UP'), 1)
  store.down = true
  broker.cutOff()
  await clock.advanceUntil(enqueue(41n))
  await clock.advance(5_000)
  t.ok(broker.connected(), 'the worker has reconnected')
  t.ok(store.refused > 0, 'and its reads were refused')
  t.equal(phone.ofType('NOTIFY'), 0)
  store.down = false
  await clock.advance(5_000)
  t.equal(phone.ofType('NOTIFY'), 1, 'long before the next slow round')
  await stop()
})

t.test('a failed check of BROADCAST is repeated within seconds, and finds that the log is new', async (t) => {
  const { clock, store, broker, phone, stop } = await connectedDevice()
  store.down = true
  broker.cutOff()
  await clock.advance(5_000)
  t.ok(store.refused > 0)
  t.same(phone.closes, [])
  store.incarnation = 7
  store.down = false
  await clock.advance(5_000)
  t.equal(phone.closes.length, 1, 'the device is closed, so that it returns for a new cursor')
  await stop()
})
