/** Processes that end: killed by SIGKILL, or stopped in order by SIGTERM. */
import type { Victim } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal, processNames } from '../fault.js'

const VICTIMS: Record<string, Victim> = { worker: 'worker', supervisor: 'transport', core: 'core', nats: 'nats' }

const ending = (name: string, victim: Victim, signal: 'SIGKILL' | 'SIGTERM'): Fault => ({
  name: `${name}-${signal === 'SIGKILL' ? 'kill' : 'term'}`,
  summary: `${signal === 'SIGKILL' ? 'kill -9 of' : 'SIGTERM to'} ${processNames[victim]}`,
  // After a kill all devices are at the surviving worker. They must spread again before the next kill.
  prepare: ({ driver }) => driver.call('spread', undefined),
  inject: ({ system }, random) => {
    const pids = system.pids(victim)
    const index = between(random, [0, Math.max(0, pids.length - 1)])
    const [pid] = system.kill(victim, signal, index)
    const description = pid === undefined ? `${name} is not running` : `${signal} to ${name} (pid ${pid})`
    return { description, durationMs: 0, heal: nothingToHeal }
  },
})

/** Each stream has one router at a time, so the surviving core must take over the streams of the dead one. */
export const twoCores: Fault = {
  ...ending('core', 'core', 'SIGKILL'),
  name: 'core-kill-of-two',
  summary: 'kill -9 of one of two cores, while app servers use both',
  cores: 2,
}

export const kills: Fault[] = Object.entries(VICTIMS).map(([name, victim]) => ending(name, victim, 'SIGKILL'))
export const terms: Fault[] = Object.entries(VICTIMS).map(([name, victim]) => ending(name, victim, 'SIGTERM'))
