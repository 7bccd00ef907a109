/** Devices that move, stop reading, or leave sockets behind that the server takes for open. */
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'

const MOVES = [2, 6] as const
const MOVE_EVERY_MS = 400
const CLOGGED_MS = [2_000, 10_000] as const
const HALF_OPEN_MS = [2_000, 10_000] as const

export const deviceFaults: Fault[] = [
  {
    name: 'devices-move',
    summary: 'half of the devices reconnect, to whichever worker, while messages are in flight, again and again',
    inject: async ({ driver }, random) => {
      const moves = between(random, MOVES)
      for (let move = 0; move < moves; move++) {
        await driver.call('touch', { touch: 'cut', share: 0.5 })
        await new Promise((resolve) => setTimeout(resolve, MOVE_EVERY_MS))
      }
      return { told: `${moves} moves of half of the devices`, lastsMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'devices-slow',
    summary: 'some devices read nothing for a while',
    inject: async ({ driver }, random) => {
      await driver.call('touch', { touch: 'clog', share: 0.05 })
      return {
        told: '5% of the devices read nothing',
        lastsMs: between(random, CLOGGED_MS),
        heal: () => driver.call('touch', { touch: 'read', share: 0 }),
      }
    },
  },
  {
    name: 'devices-half-open',
    summary: 'some devices are gone without a word and come back on another socket',
    inject: async ({ driver }, random) => {
      await driver.call('touch', { touch: 'leaveHalfOpen', share: 0.3 })
      return {
        told: '30% of the devices left their socket half-open',
        lastsMs: between(random, HALF_OPEN_MS),
        heal: () => driver.call('touch', { touch: 'hangUp', share: 0 }),
      }
    },
  },
]
