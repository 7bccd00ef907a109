/** Queue overflow: absent devices get more pushes than their queue holds, and must learn the exact number of drops. */
import { between } from '../../sim/random.js'
import type { Fault } from '../fault.js'

const QUEUE_MAX = 10
const PUSHES = [5, 30] as const
const AWAY_MS = 2_500

export const overflow: Fault = {
  name: 'queue-overflow',
  summary: `absent devices get more pushes than their queue holds (${QUEUE_MAX}); the count of the GAP must be exact`,
  settings: { core: { queueMax: QUEUE_MAX } },
  inject: async ({ driver }, random) => {
    const pushes = between(random, PUSHES)
    const devices = await driver.call('overflowQueues', { share: 0.1, pushes })
    return {
      description: `${pushes} pushes to each of ${devices} absent devices`,
      durationMs: AWAY_MS,
      heal: () => driver.call('reconnectAbsent', undefined),
    }
  },
}
