/** Parts that end: at once, or in order; and all of them, one after the other. */
import type { Victim } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import { type Fault, nothingToHeal } from '../fault.js'

const VICTIMS: Record<string, Victim> = { worker: 'worker', supervisor: 'transport', core: 'core', nats: 'nats' }

const ending = (name: string, victim: Victim, signal: 'SIGKILL' | 'SIGTERM'): Fault => ({
  name: `${name}-${signal === 'SIGKILL' ? 'kill' : 'term'}`,
  summary: `${signal === 'SIGKILL' ? 'kill -9' : 'SIGTERM'} of ${name === 'worker' ? 'a worker' : `the ${name}`}`,
  // Devices stay with the worker that survived: without this, the next one to be killed would be empty.
  prepare: ({ driver }) => driver.call('spread', undefined),
  inject: ({ system }, random) => {
    const pids = system.pids(victim)
    const index = between(random, [0, Math.max(0, pids.length - 1)])
    const [pid] = system.kill(victim, signal, index)
    const told = pid === undefined ? `${name} is away already` : `${signal} to ${name} (pid ${pid})`
    return { told, lastsMs: 0, heal: nothingToHeal }
  },
})

/** Each stream has one router at a time: the other core takes those of the dead one over. */
export const twoCores: Fault = {
  ...ending('core', 'core', 'SIGKILL'),
  name: 'core-kill-of-two',
  summary: 'kill -9 of one of two cores, both asked by app servers',
  cores: 2,
}

export const kills: Fault[] = Object.entries(VICTIMS).map(([name, victim]) => ending(name, victim, 'SIGKILL'))
export const terms: Fault[] = Object.entries(VICTIMS).map(([name, victim]) => ending(name, victim, 'SIGTERM'))
