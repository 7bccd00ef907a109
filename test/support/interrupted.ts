/** A Broker whose n-th write fails, before or after it took effect, as if the process crashed there. */
import { type Broker, BrokerError, type Log, type Table } from '../../src/nats/broker.js'

export interface Interruption {
  readonly broker: Broker
  /** The number of writes so far: appends, deletes and puts. */
  readonly writes: number
}

/** @param at the first write that fails, counted from 1. Each later one fails too: the process is gone. 0: none fails. */
export function interrupted(broker: Broker, at: number, when: 'before' | 'after'): Interruption {
  const state = { writes: 0 }
  const write = async <T>(work: () => Promise<T>): Promise<T> => {
    const count = ++state.writes
    if (at === 0 || count < at) return work()
    if (count === at && when === 'after') await work()
    throw new BrokerError('timeout', `write ${count} was interrupted`)
  }
  const logs = new Map<string, Log>()
  const logOf = (name: string): Log => {
    const log = broker.log(name)
    const known = logs.get(name)
    if (known) return known
    const wrapped: Log = {
      name,
      append: (...args) => write(() => log.append(...args)),
      last: (...args) => log.last(...args),
      at: (...args) => log.at(...args),
      next: (...args) => log.next(...args),
      delete: (...args) => write(() => log.delete(...args)),
      purge: (...args) => write(() => log.purge(...args)),
      state: () => log.state(),
      consume: (...args) => log.consume(...args),
      createConsumer: (...args) => write(() => log.createConsumer(...args)),
      deleteConsumer: (...args) => write(() => log.deleteConsumer(...args)),
      backlog: (...args) => log.backlog(...args),
      tail: (...args) => log.tail(...args),
    }
    logs.set(name, wrapped)
    return wrapped
  }
  const tableOf = (name: string): Table => {
    const table = broker.table(name)
    return {
      name,
      get: (...args) => table.get(...args),
      put: (...args) => write(() => table.put(...args)),
      delete: (...args) => write(() => table.delete(...args)),
      entries: (...args) => table.entries(...args),
      watch: (...args) => table.watch(...args),
    }
  }
  return {
    broker: { ...broker, bus: broker.bus, log: logOf, table: tableOf, connected: () => broker.connected() },
    get writes() {
      return state.writes
    },
  }
}
