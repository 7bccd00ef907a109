/** The contract over the simulated fabric, whose time runs by itself here. */
import { SimFabric } from '../sim/broker.js'
import { untilReconnected } from './reconnected.js'
import { fabricContract } from './suite.js'

const MIB8 = 8 * 1024 * 1024

fabricContract(async (t) => {
  const store = { ingressBytesMax: MIB8, scheduleBytesMax: MIB8, deadLettersBytesMax: MIB8 }
  const sim = new SimFabric({ seed: 1, store })
  t.teardown(sim.clock.runFreely())
  const [a, b] = [sim.fabricFor('a'), sim.fabricFor('b')]
  return {
    a,
    b,
    mayTimeOut: false,
    restart: async (kill) => {
      const back = untilReconnected([a, b])
      sim.restartServer(100, kill)
      await back
    },
  }
})
