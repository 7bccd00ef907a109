/**
 * The decoder against the naive codec, on mutated vectors and on noise. FUZZ_SEED repeats a run, FUZZ_ROUNDS lengthens
 * it. A difference is printed with its bytes.
 */
import { randomInt } from 'node:crypto'
import t from 'tap'
import { decodeAckIds, decodeAckIdsGenerated } from '../../protocol/ack.js'
import type { Sender } from '../../protocol/frame.js'
import type { NaiveResult } from './naive.js'
import { allVectors, bytesOf, decode, hexOf, oracle } from './support.js'

const seed = Number(process.env.FUZZ_SEED ?? randomInt(1, 2 ** 31))
const rounds = Number(process.env.FUZZ_ROUNDS ?? 30_000)
t.comment(`FUZZ_SEED=${seed} FUZZ_ROUNDS=${rounds}`)

/** mulberry32: small, seeded, good enough to choose bytes. */
function makeRandom(start: number): (below: number) => number {
  let state = start >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let x = Math.imul(state ^ (state >>> 15), state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

type Random = ReturnType<typeof makeRandom>
const corpus = allVectors
  .filter(({ hex }) => hex.length < 1_200)
  .map(({ hex, from }) => ({ bytes: bytesOf(hex), from }))
/** Bytes with a meaning in frames: types, tags, and the edges of varints. */
const meaningful = [0x00, 0x01, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x7f, 0x80, 0x81, 0xff]

/** Mostly a vector that is changed, cut, doubled or spliced with another, and sometimes noise. */
function mutate(random: Random): { bytes: Uint8Array; from: Sender } {
  const pick = () => corpus[random(corpus.length)] ?? { bytes: new Uint8Array(), from: 'device' as const }
  const { bytes: seedBytes, from } = pick()
  if (random(20) === 0) return { bytes: Uint8Array.from({ length: random(40) }, () => random(256)), from }
  const bytes = [...seedBytes]
  for (let changes = random(4); changes >= 0; changes--) {
    const at = random(bytes.length + 1)
    const byte = random(2) === 0 ? random(256) : (meaningful[random(meaningful.length)] ?? 0)
    const action = random(6)
    if (action === 0) bytes[at] = byte
    else if (action === 1) bytes.splice(at, 0, byte)
    else if (action === 2) bytes.splice(at, 1 + random(3))
    else if (action === 3) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
    else if (action === 4) bytes.push(...pick().bytes)
    else bytes.splice(at, random(4), ...pick().bytes.subarray(0, random(24)))
  }
  if (random(3) === 0) repairLength(bytes)
  return { bytes: Uint8Array.from(bytes, (byte) => byte & 255), from }
}

/** Corrects the length of the first frame, so that the decoder reads the mutated body. */
function repairLength(bytes: number[]): void {
  const prefix = bytes.findIndex((byte) => byte < 128) + 1
  const length = bytes.length - prefix
  if (prefix === 0 || length > 16_383) return
  bytes.splice(0, prefix, ...(length < 128 ? [length] : [(length & 127) | 128, length >> 7]))
}

/** Returns the first difference within `count` rounds, and the kinds of results until then. */
function compare(subject: (bytes: Uint8Array, from: Sender) => NaiveResult, start: number, count: number) {
  const random = makeRandom(start)
  const seen = new Map<string, number>()
  for (let round = 0; round < count; round++) {
    const { bytes, from } = mutate(random)
    const expected = oracle(bytes, from)
    const actual = subject(bytes, from)
    if (JSON.stringify(actual) !== JSON.stringify(expected)) return { round, from, bytes, expected, actual, seen }
    const kinds = [expected.error ?? 'whole', ...expected.frames.map((frame) => frame.type)]
    for (const kind of kinds) seen.set(kind, (seen.get(kind) ?? 0) + 1)
  }
  return { round: count, seen }
}

t.test(
  'the decoder and the naive codec agree on mutated frames and noise, and each kind of result occurs',
  async (t) => {
    const result = compare(decode, seed, rounds)
    if ('bytes' in result) {
      t.strictSame(result.actual, result.expected, `round ${result.round}, from ${result.from}: ${hexOf(result.bytes)}`)
    }
    t.equal(result.round, rounds, `all rounds ran, seed ${seed}`)
    for (const kind of ['whole', 'protocol_error', 'frame_too_large', 'unexpected_frame', 'UNKNOWN', 'ACK', 'NOTIFY']) {
      const times = result.seen.get(kind) ?? 0
      t.ok(times > rounds / 1_000, `${kind} occurred ${times} times`)
    }
  },
)

t.test('the comparison finds each fault that is planted into the decoder', async (t) => {
  const planted: Record<string, (bytes: Uint8Array, from: Sender) => NaiveResult> = {
    'an id is off by one': (bytes, from) => {
      const result = decode(bytes, from)
      for (const frame of result.frames) if (typeof frame.id === 'string') frame.id = String(BigInt(frame.id) + 1n)
      return result
    },
    'trailing bytes are accepted': (bytes, from) => {
      const result = decode(bytes, from)
      return result.offset > 0 && result.offset === bytes.length - 1 ? { ...result, error: null, offset: 0 } : result
    },
    'the direction is not checked': (bytes, from) => {
      const result = decode(bytes, from)
      return result.error === 'unexpected_frame' ? decode(bytes, from === 'device' ? 'server' : 'device') : result
    },
  }
  for (const [name, subject] of Object.entries(planted)) {
    const result = compare(subject, seed, rounds)
    t.ok('bytes' in result, `${name}: found in round ${result.round}, seed ${seed}`)
  }
})

t.test('the fast decoder of ACK returns the same ids as the generated code', async (t) => {
  const random = makeRandom(seed)
  const parts = [
    () => [0x0a, 8, ...Array.from({ length: 8 }, () => random(256))],
    () => [0x09, ...Array.from({ length: 8 }, () => random(256))],
    () => [0x0a, 0x90, 0x00, ...Array.from({ length: 16 }, () => random(256))],
    () => [0x0a, 0x80, 0x01, ...Array.from({ length: 128 }, () => random(256))],
    () => [0x10, random(128)],
    () => [random(256)],
  ]
  const read = (decoder: (body: Uint8Array) => bigint[], body: Uint8Array) => {
    try {
      return decoder(body).join()
    } catch {
      return 'refused'
    }
  }
  const outcomes = new Map<string, number>()
  for (let round = 0; round < rounds; round++) {
    const count = random(4)
    const body = Uint8Array.from(Array.from({ length: count }, () => parts[random(parts.length)]?.() ?? []).flat())
    const expected = read(decodeAckIdsGenerated, body)
    const kind = expected === 'refused' ? 'refused' : expected === '' ? 'empty' : 'ids'
    outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1)
    if (read(decodeAckIds, body) !== expected) t.equal(read(decodeAckIds, body), expected, hexOf(body))
  }
  for (const kind of ['refused', 'empty', 'ids']) t.ok((outcomes.get(kind) ?? 0) > rounds / 100, `${kind} occurred`)
})
