/** Everything is restarted in order, one part after the other, as an operator upgrades; or the devices' machine dies. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Victim } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'

const ORDER: readonly Victim[] = ['nats', 'core', 'transport']
const BETWEEN_MS = 3_000
const APART_MS = [0, 2_500] as const

export const restarts: Fault[] = [
  {
    name: 'rolling-restart',
    summary: 'nats-server, core and transport get SIGTERM one after the other',
    inject: async ({ system }) => {
      for (const victim of ORDER) {
        system.kill(victim, 'SIGTERM')
        await sleep(BETWEEN_MS)
      }
      return { told: `SIGTERM to ${ORDER.join(', ')}`, lastsMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'nats-core-kill',
    summary: 'kill -9 of nats-server and, while it comes back, of the core',
    prepare: ({ driver }) => driver.call('spread', undefined),
    inject: async ({ system }, random) => {
      system.kill('nats')
      await sleep(between(random, APART_MS))
      system.kill('core')
      return { told: 'SIGKILL to nats and core', lastsMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'devices-kill',
    summary:
      'kill -9 of the process that all devices and producers live in; their state files are what they come back with',
    inject: async (rig) => {
      await rig.killDriver()
      return { told: 'SIGKILL to all devices and producers', lastsMs: 0, heal: nothingToHeal }
    },
  },
]
