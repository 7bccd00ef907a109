/** The contract of the broker, on a real nats-server. */
import { startNats } from '../support/nats.js'
import { untilReconnected } from './reconnected.js'
import { brokerContract } from './suite.js'

const MIB8 = 8 * 1024 * 1024

brokerContract(async (t) => {
  // Small limits, so that a test can fill a stream.
  const nats = await startNats(t, {
    store: { ingressBytesMax: MIB8, scheduleBytesMax: MIB8, deadLettersBytesMax: MIB8 },
  })
  const [a, b] = [await nats.brokerAs('unrestricted', 'a'), await nats.brokerAs('unrestricted', 'b')]
  return {
    a,
    b,
    mayTimeOut: true,
    restart: async (kill) => {
      const reconnected = untilReconnected([a, b])
      if (kill) await nats.kill9()
      else await nats.stop()
      await nats.start()
      await reconnected
    },
  }
})
