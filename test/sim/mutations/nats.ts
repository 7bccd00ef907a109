/** Mutations of src/nats: authoritative reads, limits of streams, consumers that do not match their stream. */
import { edit, type Mutation } from './mutation.js'

const DURABLE = 'nats/durable'
const CONSUME = 'nats/consumer'

export const natsMutations: Mutation[] = [
  {
    name: 'leader-not-asked',
    rule: 'An authoritative read goes to the leader of a stream (ADR 13).',
    test: 'contract/server.test.js',
    edits: [edit('nats/log', 'options?.authoritative === true && !this.connection.isStandalone()', 'false')],
  },
  {
    name: 'cluster-is-alone',
    rule: 'Only a single server with its own JetStream is read directly (ADR 13).',
    test: 'contract/server.test.js',
    edits: [edit('nats/connect', 'info?.jetstream === true && !info.cluster', 'info?.jetstream === true')],
  },
  {
    name: 'no-reserve',
    rule: 'Appends stop before the limit of a stream is reached.',
    test: 'contract/headroom.test.js',
    edits: [edit('nats/server/headroom', 'if (fill.bytes > fill.bytesMax &&', 'if (fill.bytes < 0 &&')],
  },
  {
    name: 'own-appends-not-reckoned',
    rule: 'The appends of this process since the last reading of the stream state count.',
    test: 'unit/headroom.test.js',
    edits: [edit('nats/server/headroom', 'fill.bytes += bytes + RECORD_OVERHEAD_BYTES;', '')],
  },
  {
    name: 'ingress-bounded-by-bytes',
    rule: 'INGRESS is bounded by its number of records, so that no stored record is evicted.',
    test: 'contract/headroom.test.js',
    edits: [edit('nats/server/streams', 'recordsMax: ingressRecordsMax(store)', 'recordsMax: 0')],
  },
  {
    name: 'consumer-ahead-of-its-stream',
    rule: 'A consumer whose position is beyond the end of its stream is created again.',
    test: 'contract/lost-end.test.js',
    // One of the two checks alone would still deliver the records, so both are removed.
    edits: [
      edit(DURABLE, 'delivered.stream_seq <= (await', '0 <= (await'),
      edit(CONSUME, 'isReused: (record) => this.#isReused(record)', 'isReused: () => false'),
    ],
  },
  {
    name: 'stored-anew-is-swept-away',
    rule: 'A new record with the sequence of an acknowledged one is not taken as acknowledged.',
    test: 'contract/lost-end.test.js',
    edits: [edit(CONSUME, 'isReused: (record) => this.#isReused(record)', 'isReused: () => false')],
  },
]
