import type { Fabric } from '../../src/nats/broker.js'

/** Resolves when each of them said `reconnected` after this call. */
export async function untilReconnected(fabrics: Fabric[]): Promise<void> {
  await Promise.all(
    fabrics.map(
      (fabric) =>
        new Promise<void>((resolve) => {
          const subscription = fabric.onStatus((status) => {
            if (status !== 'reconnected') return
            subscription.unsubscribe()
            resolve()
          })
        }),
    ),
  )
}
