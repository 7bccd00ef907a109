/** Breaks of what the broker makes of NATS: which reads miss nothing, which appends are safe, which consumer fits its stream. */
import { edit, type Mutation } from './mutation.js'

const DURABLE = 'nats/durable'
const CONSUME = 'nats/consumer'

export const natsMutations: Mutation[] = [
  {
    name: 'leader-not-asked',
    rule: 'Reads that must not miss anything go to the leader of a stream (ADR 13).',
    test: 'contract/server.test.js',
    edits: [edit('nats/log', 'options?.authoritative === true && !this.connection.isStandalone()', 'false')],
  },
  {
    name: 'cluster-is-alone',
    rule: 'Only a server of no cluster, with JetStream of its own, is asked directly (ADR 13).',
    test: 'contract/server.test.js',
    edits: [edit('nats/connect', 'info?.jetstream === true && !info.cluster', 'info?.jetstream === true')],
  },
  {
    name: 'no-reserve',
    rule: 'Appends stop short of the limit of a stream.',
    test: 'contract/room.test.js',
    edits: [edit('nats/server/headroom', 'if (fill.bytes > fill.bytesMax)', 'if (fill.bytes < 0)')],
  },
  {
    name: 'own-appends-not-reckoned',
    rule: 'What this process adds between two looks counts.',
    test: 'unit/room.test.js',
    edits: [edit('nats/server/headroom', 'fill.bytes += bytes + RECORD_OVERHEAD_BYTES;', '')],
  },
  {
    name: 'ingress-bounded-by-bytes',
    rule: 'INGRESS is bounded by records, so that nothing pushes out what was stored.',
    test: 'contract/room.test.js',
    edits: [edit('nats/server/streams', 'recordsMax: ingressRecordsMax(store)', 'recordsMax: 0')],
  },
  {
    name: 'consumer-ahead-of-its-stream',
    rule: 'A consumer that is further than its stream begins anew.',
    test: 'contract/lost-end.test.js',
    // Where it does not, what is stored is known by its sequence, and delivered all the same: both have to go.
    edits: [
      edit(DURABLE, 'delivered.stream_seq <= (await', '0 <= (await'),
      edit(CONSUME, 'isReused: (record) => this.#isReused(record)', 'isReused: () => false'),
    ],
  },
  {
    name: 'stored-anew-is-swept-away',
    rule: 'What has the sequence of another record before it was acknowledged by nobody.',
    test: 'contract/lost-end.test.js',
    edits: [edit(CONSUME, 'isReused: (record) => this.#isReused(record)', 'isReused: () => false')],
  },
]
