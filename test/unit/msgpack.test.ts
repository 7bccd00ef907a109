import fc from 'fast-check'
import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeMsgpack } from '../../src/core/domain/msgpack/decode.js'
import { encodeMsgpack } from '../../src/core/domain/msgpack/encode.js'
import { MsgpackError } from '../../src/core/domain/msgpack/error.js'

const limits = { bytesMax: 65_536, depthMax: 32 }
const oracle = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'auto' as 'bigint' })
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

function problemOf(run: () => unknown): string {
  try {
    run()
    return 'none'
  } catch (error) {
    if (error instanceof MsgpackError) return error.problem
    throw error
  }
}

t.test('each JSON value decodes to itself, with this codec and with msgpackr', async (t) => {
  const wellFormed = fc.string({ unit: 'grapheme' }).filter((text) => text !== '__proto__')
  const json = fc.jsonValue({ stringUnit: 'grapheme', maxDepth: 5 }).map(plain)
  fc.assert(
    fc.property(fc.dictionary(wellFormed, json), (value) => {
      const bytes = encodeMsgpack(value, limits)
      t.same(plain(decodeMsgpack(bytes, 32)), plain(value))
      const decodedByOracle = oracle.unpack(bytes)
      if (!JSON.stringify(value).includes('__proto__')) t.same(plain(decodedByOracle), plain(value))
    }),
    { numRuns: 300 },
  )
})

t.test('a number is encoded in its shortest form, as msgpackr encodes it', async (t) => {
  const numbers = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, -1, -32, -33, -128, -129, -32_768, -32_769]
  for (const number of [...numbers, -2_147_483_648, 1.5]) {
    t.same(Buffer.from(encodeMsgpack(number, limits)), oracle.pack(number), String(number))
  }
  for (const number of [2 ** 32, -(2 ** 31) - 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 53, 1e300]) {
    t.equal(decodeMsgpack(encodeMsgpack(number, limits), 1), number)
  }
})

t.test('text, lists and maps of lengths at each change of the length field decode to themselves', async (t) => {
  for (const length of [0, 1, 15, 16, 31, 32, 255, 256, 65_536]) {
    const large = { bytesMax: 1_000_000, depthMax: 4 }
    t.equal(decodeMsgpack(encodeMsgpack('x'.repeat(length), large), 1), 'x'.repeat(length), `text of ${length}`)
    const list = new Array(length).fill(1)
    t.same(oracle.unpack(encodeMsgpack(list, large)), list, `list of ${length}`)
    const map = Object.fromEntries(Array.from({ length }, (_, i) => [`k${i}`, i]))
    t.same(plain(decodeMsgpack(encodeMsgpack(map, large), 1)), map, `map of ${length}`)
  }
})

t.test('keys such as __proto__ and constructor decode as plain keys', async (t) => {
  const value = JSON.parse('{"constructor":1,"toJSON":2,"__proto__":{"polluted":true},"then":3,"length":4}') as object
  const decoded = decodeMsgpack(encodeMsgpack(value, limits), 8) as Record<string, unknown>
  t.same(Object.keys(decoded), ['constructor', 'toJSON', '__proto__', 'then', 'length'])
  t.notOk('polluted' in {})
})

t.test('a value beyond the limits of depth or bytes is refused as too_deep or too_large', async (t) => {
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = [deep]
  t.equal(
    problemOf(() => encodeMsgpack(deep, limits)),
    'too_deep',
  )
  t.equal(
    problemOf(() => encodeMsgpack(new Array(70_000).fill(0), limits)),
    'too_large',
  )
  t.equal(
    problemOf(() => encodeMsgpack('x'.repeat(65_536), limits)),
    'too_large',
  )
  t.equal(
    problemOf(() => encodeMsgpack({ a: 'x'.repeat(10) }, { bytesMax: 14, depthMax: 1 })),
    'none',
  )
  t.equal(
    problemOf(() => encodeMsgpack({ a: 'x'.repeat(11) }, { bytesMax: 14, depthMax: 1 })),
    'too_large',
  )
  t.equal(
    problemOf(() => decodeMsgpack(Buffer.alloc(400_000, 0x91), 32)),
    'too_deep',
  )
})

t.test('a value that JSON lacks is refused as not_json when it is encoded', async (t) => {
  for (const value of [
    undefined,
    1n,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    new Date(0),
    new Map(),
    '\ud800',
    { a: '\udfff' },
  ]) {
    t.equal(
      problemOf(() => encodeMsgpack(value, limits)),
      'not_json',
      typeof value,
    )
  }
})

t.test('bytes of a type that JSON lacks decode to not_json, and damaged bytes to malformed', async (t) => {
  const bytes: Record<string, string> = {
    c403010203: 'not_json', // binary
    d6ff00000001: 'not_json', // a time
    d4724093a161: 'not_json', // a record of msgpackr
    '810102': 'not_json', // a key that is a number
    cf0020000000000001: 'not_json', // 2^53 + 1
    cb7ff8000000000000: 'not_json', // NaN
    c1: 'malformed',
    '': 'malformed',
    dd0fffffff00: 'malformed', // 268 million entries in no bytes
    df7fffffff: 'malformed',
    dbffffffff61: 'malformed',
    a1ff: 'malformed', // not UTF-8
    c0c0: 'malformed', // two values
  }
  for (const [hex, problem] of Object.entries(bytes)) {
    t.equal(
      problemOf(() => decodeMsgpack(Buffer.from(hex, 'hex'), 8)),
      problem,
      hex,
    )
  }
})

t.test('random bytes decode to a value or throw a MsgpackError', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      problemOf(() => decodeMsgpack(bytes, 4))
    }),
    { numRuns: 3_000 },
  )
  t.pass('no other error was thrown')
})
