/** All mutations, in families that share the tests of one part. */
import { coreMutations } from './core.js'
import { deviceMutations } from './device.js'
import { groupMutations } from './groups.js'
import type { Family } from './mutation.js'
import { natsMutations } from './nats.js'
import { transportMutations } from './transport.js'

const DELIVERY = ['route', 'route-faults', 'final-events', 'enqueue', 'queue-records', 'accept'].map(
  (name) => `delivery/${name}.test.js`,
)
const TRANSPORT = [
  ...['session', 'session-model', 'stores', 'groups-sim', 'ticket', 'admission', 'registry', 'outbox'],
  ...['limiter', 'uplink', 'settlements'],
].map((name) => `unit/transport/${name}.test.js`)
const DEVICE = ['connection', 'client', 'handover', 'state'].map((name) => `device/${name}.test.js`)
const NATS = ['contract/headroom', 'contract/server', 'contract/lost-end', 'unit/headroom'].map(
  (name) => `${name}.test.js`,
)

/** The simulation or a test must catch each of these mutations. */
export const families: Family[] = [
  { mutations: coreMutations, tests: DELIVERY },
  { mutations: transportMutations, tests: [...TRANSPORT, ...DELIVERY] },
  { mutations: groupMutations, tests: TRANSPORT },
  { mutations: deviceMutations, tests: DEVICE },
  { mutations: natsMutations, tests: NATS },
]
