/** Network faults between two parts: the connections of a link are cut, delayed, stalled, or lose every byte. */
import { between, type Random } from '../../sim/random.js'
import { type Fault, LINKS, type Link, mostlyShort } from '../fault.js'
import type { Line, Way } from '../proxy.js'

const DURATION_MS = [5_000, 60_000] as const
const DELAY_MS = [50, 1_500] as const
const WAYS: readonly Way[] = ['both', 'there', 'back']

const wayOf = (random: Random): Way => WAYS[between(random, [0, WAYS.length - 1])] ?? 'both'

const breakages: Record<string, { does: string; line(random: Random): Line }> = {
  cut: { does: 'is cut', line: () => ({ mode: 'cut' }) },
  delay: {
    does: 'is slow, in one direction or both',
    line: (random) => ({ mode: 'delay', ms: between(random, DELAY_MS), way: wayOf(random) }),
  },
  stall: {
    does: 'stalls in one direction or both, and then delivers everything',
    line: (random) => ({ mode: 'stall', way: wayOf(random) }),
  },
  swallow: {
    does: 'loses everything, in one direction or both',
    line: (random) => ({ mode: 'swallow', way: wayOf(random) }),
  },
}

const breaking = (link: Link, name: string): Fault => ({
  name: `${link}-${name}`,
  summary: `the connection ${link} ${breakages[name]?.does}`,
  links: [link],
  inject: (rig, random) => {
    const line: Line = breakages[name]?.line(random) ?? { mode: 'pass' }
    rig.proxy(link).set(line)
    const { mode, ...details } = line
    return {
      description: `${link} ${mode} ${JSON.stringify(details)}`,
      durationMs: mostlyShort(random, DURATION_MS),
      heal: () => rig.proxy(link).set({ mode: 'pass' }),
    }
  },
})

export const lines: Fault[] = LINKS.flatMap((link) => Object.keys(breakages).map((name) => breaking(link, name)))
