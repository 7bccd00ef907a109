/** Processes that are frozen (SIGSTOP) for some time and then continue. */
import { isAlive } from '../../../bench/measure/processes.js'
import type { Victim } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import { type Fault, mostlyShort, processNames } from '../fault.js'

const FROZEN_MS = [1_000, 60_000] as const

const freezing = (name: string, victim: Victim): Fault => ({
  name: `${name}-freeze`,
  summary: `${processNames[victim]} is frozen (SIGSTOP) for ${FROZEN_MS.map((ms) => ms / 1000).join(' to ')} s`,
  prepare: ({ driver }) => driver.call('spread', undefined),
  inject: ({ system }, random) => {
    const pids = system.pids(victim)
    const pid = pids[between(random, [0, Math.max(0, pids.length - 1)])]
    if (pid === undefined) return { description: `${name} is not running`, durationMs: 0, heal: () => undefined }
    process.kill(pid, 'SIGSTOP')
    return {
      description: `SIGSTOP to ${name} (pid ${pid})`,
      durationMs: mostlyShort(random, FROZEN_MS),
      heal: () => {
        // Another fault of the same run may have killed the process meanwhile.
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
