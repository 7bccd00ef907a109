import type { Broker } from '../../src/nats/broker.js'

/** Resolves when each of the brokers has reconnected after this call. */
export async function untilReconnected(brokers: Broker[]): Promise<void> {
  await Promise.all(
    brokers.map(
      (broker) =>
        new Promise<void>((resolve) => {
          const subscription = broker.onStatus((status) => {
            if (status !== 'reconnected') return
            subscription.unsubscribe()
            resolve()
          })
        }),
    ),
  )
}
