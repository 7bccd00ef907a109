/** The contract of the broker, on the simulated broker. Its clock runs by itself here. */
import { SimBroker } from '../sim/broker.js'
import { untilReconnected } from './reconnected.js'
import { brokerContract } from './suite.js'

const MIB8 = 8 * 1024 * 1024

brokerContract(async (t) => {
  const store = { ingressBytesMax: MIB8, scheduleBytesMax: MIB8, deadLettersBytesMax: MIB8 }
  const sim = new SimBroker({ seed: 1, store })
  t.teardown(sim.clock.runFreely())
  const [a, b] = [sim.brokerFor('a'), sim.brokerFor('b')]
  return {
    a,
    b,
    mayTimeOut: false,
    restart: async (kill) => {
      const reconnected = untilReconnected([a, b])
      sim.restartServer(100, kill)
      await reconnected
    },
  }
})
