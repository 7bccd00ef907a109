/** More pushes than an absent device may be owed: the oldest go, and the device is told exactly how many. */
import { between } from '../../sim/random.js'
import type { Fault } from '../fault.js'

const QUEUE_MAX = 10
const PUSHES = [5, 30] as const
const AWAY_MS = 2_500

export const overflow: Fault = {
  name: 'queue-overflow',
  summary: `devices are away and owed more than they may be (${QUEUE_MAX}): the count of the GAP is exact`,
  settings: { core: { queueMax: QUEUE_MAX } },
  inject: async ({ driver }, random) => {
    const pushes = between(random, PUSHES)
    const devices = await driver.call('overflow', { share: 0.1, pushes })
    return {
      told: `${pushes} pushes to each of ${devices} absent devices`,
      lastsMs: AWAY_MS,
      heal: () => driver.call('comeBack', undefined),
    }
  },
}
