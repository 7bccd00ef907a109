/** Parts that stand still for a while and go on as if nothing had been. */

import { isAlive } from '../../../bench/measure/processes.js'
import type { Victim } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import { type Fault, mostlyShort } from '../fault.js'

const FROZEN_MS = [1_000, 60_000] as const

const freezing = (name: string, victim: Victim): Fault => ({
  name: `${name}-freeze`,
  summary: `${name === 'worker' ? 'a worker' : `the ${name}`} is frozen (SIGSTOP) for ${FROZEN_MS.map((ms) => ms / 1000).join(' to ')} s`,
  prepare: ({ driver }) => driver.call('spread', undefined),
  inject: ({ system }, random) => {
    const pids = system.pids(victim)
    const pid = pids[between(random, [0, Math.max(0, pids.length - 1)])]
    if (pid === undefined) return { told: `${name} is away already`, lastsMs: 0, heal: () => undefined }
    process.kill(pid, 'SIGSTOP')
    return {
      told: `SIGSTOP to ${name} (pid ${pid})`,
      lastsMs: mostlyShort(random, FROZEN_MS),
      heal: () => {
        // Another fault of the same run may have ended it meanwhile.
        if (isAlive(pid)) process.kill(pid, 'SIGCONT')
      },
    }
  },
})

export const freezes: Fault[] = [
  freezing('worker', 'worker'),
  freezing('supervisor', 'transport'),
  freezing('core', 'core'),
  freezing('nats', 'nats'),
]
