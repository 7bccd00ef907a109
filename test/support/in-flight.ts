/** Counts the requests of one process that wait for an answer of the broker, and those that it has made. */
import type { Broker, Log, Table } from '../../src/nats/broker.js'

export interface InFlight {
  broker: Broker
  now: number
  /** The greatest value of `now` since reset(). */
  most: number
  /** The number of requests made since reset(). */
  made: number
  reset(): void
}

const REQUESTS = new Set<PropertyKey>(['append', 'last', 'at', 'next', 'delete', 'purge', 'state', 'get', 'put'])

/** The broker of a process, as the process gets it, with its requests counted. */
export function countInFlight(broker: Broker): InFlight {
  const counts = {
    ...{ broker, now: 0, most: 0, made: 0 },
    reset: () => {
      counts.most = counts.now
      counts.made = 0
    },
  }
  const counted = <T extends Log | Table>(store: T): T =>
    new Proxy(store, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        const call = value as (...args: unknown[]) => unknown
        if (!REQUESTS.has(name)) return call.bind(target)
        return async (...args: unknown[]) => {
          counts.now++
          counts.made++
          counts.most = Math.max(counts.most, counts.now)
          try {
            return await call.apply(target, args)
          } finally {
            counts.now--
          }
        }
      },
    })
  counts.broker = new Proxy(broker, {
    get: (target, name) => {
      if (name === 'log') return (stream: string) => counted(target.log(stream))
      if (name === 'table') return (bucket: string) => counted(target.table(bucket))
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value
    },
  })
  return counts
}
