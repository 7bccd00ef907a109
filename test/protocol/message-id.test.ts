import fc from 'fast-check'
import t from 'tap'
import {
  blockId,
  ID_BLOCK,
  MessageIdSource,
  NODES,
  PARTITIONS,
  parseMessageId,
  partitionOf,
  partitionOfId,
  timeOfId,
} from '../../protocol/message-id.js'

const NOW = Date.UTC(2025, 10, 21)

t.test('an id contains its time, its partition and its node', async (t) => {
  for (const partition of [0, 1, 31, PARTITIONS - 1]) {
    for (const node of [0, 7, NODES - 1]) {
      const id = new MessageIdSource(node, () => NOW).next(partition)
      t.equal(timeOfId(id), NOW)
      t.equal(partitionOfId(id), partition)
      t.equal(Number((id >> 8n) & 0xffn), node)
    }
  }
})

t.test('ids of one partition strictly increase, whatever the clock does', async (t) => {
  // Steps of the clock, forwards and backwards, with a burst of ids after each.
  const steps = fc.array(fc.record({ ms: fc.integer({ min: -5_000, max: 5_000 }), burst: fc.nat(700) }), {
    maxLength: 12,
  })
  fc.assert(
    fc.property(steps, fc.constantFrom(0, 0.25, 0.75), (moves, fraction) => {
      let now = NOW
      const source = new MessageIdSource(3, () => now)
      let last = 0n
      for (const { ms, burst } of moves) {
        now += ms + fraction
        for (let i = 0; i <= burst; i++) {
          const id = source.next(9)
          if (id <= last) return false
          last = id
        }
      }
      return true
    }),
  )
  t.pass('every property held')
})

t.test('the 257th id of a millisecond is the first one of the next millisecond', async (t) => {
  const source = new MessageIdSource(0, () => NOW)
  const ids = Array.from({ length: 257 }, () => source.next(5))
  t.equal(timeOfId(ids[255] ?? 0n), NOW)
  t.equal(timeOfId(ids[256] ?? 0n), NOW + 1)
  t.equal(new Set(ids).size, 257)
})

t.test('ids of different partitions or nodes differ', async (t) => {
  const sources = [new MessageIdSource(0, () => NOW), new MessageIdSource(1, () => NOW)]
  const ids = sources.flatMap((source) => Array.from({ length: 3 * PARTITIONS }, (_, i) => source.next(i % PARTITIONS)))
  t.equal(new Set(ids).size, 2 * 3 * PARTITIONS)
})

t.test('ids stay inside 63 bits until 2093', async (t) => {
  const last = new MessageIdSource(NODES - 1, () => Date.UTC(2093, 0, 1)).next(PARTITIONS - 1)
  t.ok(last < 1n << 63n)
  t.equal(parseMessageId(last.toString()), last)
})

t.test('a node or partition that is out of range or no integer throws RangeError', async (t) => {
  for (const node of [-1, NODES, 0.5, Number.NaN]) t.throws(() => new MessageIdSource(node, () => NOW), RangeError)
  const source = new MessageIdSource(0, () => NOW)
  for (const partition of [-1, PARTITIONS, 0.5, Number.NaN]) t.throws(() => source.next(partition), RangeError)
})

t.test('parseMessageId reads a decimal of at most 63 bits, and returns null for any other text', async (t) => {
  fc.assert(fc.property(fc.bigInt({ min: 1n, max: (1n << 63n) - 1n }), (id) => parseMessageId(id.toString()) === id))
  const wrong = [
    '',
    '0',
    '01',
    '-1',
    '+1',
    '1.0',
    '1e3',
    ' 1',
    '1\n',
    '0x1',
    '9223372036854775808',
    '1'.repeat(20),
    'id',
  ]
  for (const text of wrong) t.equal(parseMessageId(text), null, JSON.stringify(text))
  t.equal(parseMessageId('9223372036854775807'), (1n << 63n) - 1n)
})

t.test('the partition of a key is its FNV-1a hash, on which stored subjects depend', async (t) => {
  // Published values of 32-bit FNV-1a.
  t.equal(partitionOf(''), 0x811c9dc5 % PARTITIONS)
  t.equal(partitionOf('a'), 0xe40c292c % PARTITIONS)
  t.equal(partitionOf('foobar'), 0xbf9cf968 % PARTITIONS)
})

t.test('64,000 devices spread evenly over the 64 partitions', async (t) => {
  const counts = new Array<number>(PARTITIONS).fill(0)
  for (let i = 0; i < 64_000; i++) {
    const partition = partitionOf(`dev_${i.toString(36).padStart(20, '0')}`)
    counts[partition] = (counts[partition] ?? 0) + 1
  }
  t.ok(
    Math.min(...counts) > 700 && Math.max(...counts) < 1_300,
    `${Math.min(...counts)} to ${Math.max(...counts)} devices in a partition`,
  )
})

t.test('the ids of a block are unique, in their partitions, and between the ids made before and after it', (t) => {
  const source = new MessageIdSource(3, () => NOW)
  const before = Array.from({ length: 300 }, () => source.next(5))
  const blocks = [source.nextBlock(), source.nextBlock()]
  const after = [source.next(5), source.next(6)]
  const inBlocks = blocks.flatMap((block) =>
    [5, 6, PARTITIONS - 1].flatMap((partition) =>
      Array.from({ length: ID_BLOCK }, (_, place) => blockId(block, partition, place)),
    ),
  )
  const all = [...before, ...inBlocks, ...after]
  t.equal(new Set(all).size, all.length)
  for (const [index, id] of inBlocks.entries()) {
    t.equal(partitionOfId(id), [5, 6, PARTITIONS - 1][Math.floor(index / ID_BLOCK) % 3])
    t.ok(id > (before.at(-1) ?? 0n) && id < (after[0] ?? 0n), 'after the earlier ids and before the later ones')
  }
  t.equal(blockId(blocks[0] ?? 0n, 5, ID_BLOCK + 2), blockId(blocks[0] ?? 0n, 5, 2))
  t.end()
})
