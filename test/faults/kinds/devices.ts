/** Devices that reconnect, stop reading, or leave half-open sockets behind. */
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'

const MOVES = [2, 6] as const
const MOVE_EVERY_MS = 400
const NOT_READING_MS = [2_000, 10_000] as const
const HALF_OPEN_MS = [2_000, 10_000] as const

export const deviceFaults: Fault[] = [
  {
    name: 'devices-move',
    summary: 'half of the devices reconnect to random workers, several times, while messages are in flight',
    inject: async ({ driver }, random) => {
      const moves = between(random, MOVES)
      for (let move = 0; move < moves; move++) {
        await driver.call('disturb', { disturbance: 'cut', share: 0.5 })
        await new Promise((resolve) => setTimeout(resolve, MOVE_EVERY_MS))
      }
      return { description: `half of the devices reconnect ${moves} times`, durationMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'devices-slow',
    summary: 'some devices read nothing for some seconds',
    inject: async ({ driver }, random) => {
      await driver.call('disturb', { disturbance: 'stopReading', share: 0.05 })
      return {
        description: '5% of the devices read nothing',
        durationMs: between(random, NOT_READING_MS),
        heal: () => driver.call('disturb', { disturbance: 'resumeReading', share: 0 }),
      }
    },
  },
  {
    name: 'devices-half-open',
    summary: 'some devices leave their socket half open and come back on another one',
    inject: async ({ driver }, random) => {
      await driver.call('disturb', { disturbance: 'leaveHalfOpen', share: 0.3 })
      return {
        description: '30% of the devices leave their socket half open',
        durationMs: between(random, HALF_OPEN_MS),
        heal: () => driver.call('disturb', { disturbance: 'closeHalfOpen', share: 0 }),
      }
    },
  },
]
