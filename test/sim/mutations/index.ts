import { coreMutations } from './core.js'
import { deviceMutations } from './device.js'
import { groupMutations } from './groups.js'
import type { Mutation } from './mutation.js'
import { transportMutations } from './transport.js'

/** Every deliberate break, each of which the simulation has to catch. */
export const mutations: Mutation[] = [...coreMutations, ...transportMutations, ...groupMutations, ...deviceMutations]
