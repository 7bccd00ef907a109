/** Faults of several processes: a rolling restart as in an upgrade, a double kill, and a kill of all devices. */
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
    summary: 'SIGTERM to nats-server, core and transport, one after the other',
    inject: async ({ system }) => {
      for (const victim of ORDER) {
        system.kill(victim, 'SIGTERM')
        await sleep(BETWEEN_MS)
      }
      return { description: `SIGTERM to ${ORDER.join(', ')}`, durationMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'nats-core-kill',
    summary: 'kill -9 of nats-server, and of the core while nats-server restarts',
    prepare: ({ driver }) => driver.call('spread', undefined),
    inject: async ({ system }, random) => {
      system.kill('nats')
      await sleep(between(random, APART_MS))
      system.kill('core')
      return { description: 'SIGKILL to nats and core', durationMs: 0, heal: nothingToHeal }
    },
  },
  {
    name: 'devices-kill',
    summary: 'kill -9 of the process of all devices and producers, which restart from their state files',
    inject: async (rig) => {
      await rig.killDriver()
      return { description: 'SIGKILL to all devices and producers', durationMs: 0, heal: nothingToHeal }
    },
  },
]
