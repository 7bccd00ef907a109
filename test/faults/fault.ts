/** The interface of a fault: how it is injected into a running system, how it is healed, and which set-up it needs. */
import type { Cleanup } from '../../bench/cleanup.js'
import type { Victim } from '../../bench/system/local-system.js'
import type { Overrides } from '../../bench/system/settings.js'
import type { Random } from '../sim/random.js'
import type { Rig } from './rig.js'

/** The connections that can pass through a proxy. A name gives the connecting part, then the listening one. */
export const LINKS = ['device-transport', 'transport-nats', 'core-nats', 'app-core'] as const
export type Link = (typeof LINKS)[number]

export interface Injection {
  /** Names the victim and the action, for the log. */
  description: string
  /** Time from the injection to heal(); 0 for a fault that needs no healing. */
  durationMs: number
  heal(): Promise<void> | void
  /** Called just before heal(). False if the fault had no effect on the system, because such a fault proves nothing. */
  hadEffect?(): Promise<boolean>
}

/** A random duration in the range. Most are short, so that a run has time for many injections. */
export const mostlyShort = (random: Random, [low, high]: readonly [number, number]): number =>
  Math.round(low * (high / low) ** (random() ** 2))

export interface Fault {
  name: string
  /** One line for `npm run faults -- --help`. */
  summary: string
  /** The connections that must pass through a proxy. */
  links?: readonly Link[]
  settings?: Overrides
  /** Number of core processes; default 1. */
  cores?: number
  /** Called before the system starts, with the folder of its data. `cleanup` undoes the set-up. */
  setUp?(systemFolder: string, cleanup: Cleanup): void
  /** Called before the pause that precedes each injection. */
  prepare?(rig: Rig): Promise<void>
  inject(rig: Rig, random: Random): Promise<Injection> | Injection
  /** The fault ends no process and no connection, so a connected device gets also the pushes with ttl 0s. */
  keepsConnections?: true
  /** Events of ended pushes may leave the store during the run, so that the API does not know these pushes any more. */
  mayForget?: boolean
  /** At least one attempt must get an answer that matches. Without one the fault had no effect and proves nothing. */
  expectedAnswer?: RegExp
}

/** Thrown if this machine does not permit the fault. */
export class FaultSkipped extends Error {}

/** The names of processes in the summaries of faults. */
export const processNames: Readonly<Record<Victim, string>> = {
  worker: 'a worker',
  transport: 'the supervisor',
  core: 'the core',
  nats: 'nats-server',
}

export const nothingToHeal = () => undefined

/** Combines faults into one that injects them in turn. */
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
      if (!fault) throw new RangeError('inTurn needs at least one fault')
      return fault.inject(rig, random)
    },
  }
}
