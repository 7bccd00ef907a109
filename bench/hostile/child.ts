/** The program of the attackers' process: their CPU must not slow down the generators of well-behaved devices. */
import { serve } from '../generator/rpc.js'
import { ATTACKS, type Attack, type AttackName, startAttack, type Target } from './attackers.js'

const running = new Map<AttackName, Attack>()

const methods = {
  start: ({ target, connections }: { target: Target; connections: number }): void => {
    for (const name of ATTACKS) running.set(name, startAttack(name, target, connections))
  },
  stop: (): Record<string, Attack['counts']> => {
    for (const attack of running.values()) attack.stop()
    return Object.fromEntries([...running].map(([name, { counts }]) => [name, { ...counts }]))
  },
}

export type HostileMethods = typeof methods

serve(methods)
