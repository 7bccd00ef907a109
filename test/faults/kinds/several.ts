/** Faults that overlap: the next one comes before the system is over the last. */
import { setTimeout as sleep } from 'node:timers/promises'
import { between } from '../../sim/random.js'
import type { Fault, Injection } from '../fault.js'

const AT_ONCE = [2, 4] as const
const APART_MS = [0, 2_500] as const

/** Some of these, one shortly after the other; those that last are healed together. */
export const several = (name: string, summary: string, faults: readonly Fault[]): Fault => ({
  name,
  summary,
  prepare: async (rig) => faults[0]?.prepare?.(rig),
  inject: async (rig, random) => {
    const done: Injection[] = []
    const count = between(random, AT_ONCE)
    while (done.length < count) {
      const fault = faults[between(random, [0, faults.length - 1])]
      if (fault) done.push(await fault.inject(rig, random))
      await sleep(between(random, APART_MS))
    }
    return {
      told: done.map(({ told }) => told).join(', '),
      lastsMs: Math.max(...done.map(({ lastsMs }) => lastsMs)),
      heal: async () => {
        for (const { heal } of done) await heal()
      },
    }
  },
})
