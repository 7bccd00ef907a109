/** What a fault is: how it is done to a running system, how it is undone, and what it needs around it. */
import type { Cleanup } from '../../bench/cleanup.js'
import type { Overrides } from '../../bench/system/settings.js'
import type { Random } from '../sim/random.js'
import type { Rig } from './rig.js'

/** Lines between parts that can be led through a proxy, named by who connects and to whom. */
export const LINKS = ['device-transport', 'transport-nats', 'core-nats', 'app-core'] as const
export type Link = (typeof LINKS)[number]

export interface Injection {
  /** For the log: what was done to whom. */
  told: string
  /** How long it lasts before it is healed; 0: it is over at once. */
  lastsMs: number
  heal(): Promise<void> | void
  /** Asked just before it is healed: did it do anything to the system? A fault that did nothing proves nothing. */
  hurt?(): Promise<boolean>
}

/** How long it lasts: mostly short, now and then as long as may be, so that many of them fit in a run. */
export const mostlyShort = (random: Random, [low, high]: readonly [number, number]): number =>
  Math.round(low * (high / low) ** (random() ** 2))

export interface Fault {
  name: string
  summary: string
  /** Lines that it breaks. */
  links?: readonly Link[]
  settings?: Overrides
  /** Core processes; default 1. */
  cores?: number
  /** Before anything of the system is started: where it will keep its data. What is done is undone by `cleanup`. */
  furnish?(systemFolder: string, cleanup: Cleanup): void
  /** Before each calm time that ends with an injection. */
  prepare?(rig: Rig): Promise<void>
  inject(rig: Rig, random: Random): Promise<Injection> | Injection
  /** What some attempts have to be answered: a fault that did nothing proves nothing. */
  expects?: RegExp
}

/** This machine does not let it be done. */
export class FaultSkipped extends Error {}

export const nothingToHeal = () => undefined

/** One after the other, in turn, in one run. */
export function inTurn(name: string, faults: readonly Fault[]): Fault {
  let turn = 0
  const next = () => faults[turn % faults.length]
  return {
    name,
    summary: faults.map((fault) => fault.name).join(', then '),
    links: faults.flatMap(({ links = [] }) => links),
    prepare: async (rig) => next()?.prepare?.(rig),
    inject: (rig, random) => {
      const fault = next()
      turn++
      if (!fault) throw new RangeError('no faults to do in turn')
      return fault.inject(rig, random)
    },
  }
}
