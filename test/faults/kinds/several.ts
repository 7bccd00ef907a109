/** Overlapping faults: the next one is injected before the system has recovered from the last. */
import { setTimeout as sleep } from 'node:timers/promises'
import { between } from '../../sim/random.js'
import type { Fault, Injection } from '../fault.js'

const AT_ONCE = [2, 4] as const
const APART_MS = [0, 2_500] as const

/** Injects several of these faults shortly after one another, and heals them together. */
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
      description: done.map(({ description }) => description).join(', '),
      durationMs: Math.max(...done.map(({ durationMs }) => durationMs)),
      heal: async () => {
        for (const { heal } of done) await heal()
      },
    }
  },
})
