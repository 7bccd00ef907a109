import fc from 'fast-check'
import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeData } from '../../src/device/data.js'
import { DeviceError } from '../../src/device/errors.js'

const LIMITS = { dataBytesMax: 1_000, dataItemsMax: 50, dataDepthMax: 4 }
const packr = new Packr({ useRecords: false })
const decode = (...bytes: number[]) => decodeData(new Uint8Array(bytes), LIMITS)

t.test('what JSON has, both ways', async (t) => {
  const value = { text: 'é', int: -3, big: 5e9, float: 1.5, yes: true, none: null, list: [1, [2]], map: { a: {} } }
  t.same(decodeData(packr.pack(value), LIMITS), value)
  t.same(decodeData(new Uint8Array(0), LIMITS), {})
  t.same(decode(0x81, 0xa1, 0x61, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0), { a: 2 ** 32 })
  t.same(decode(0x81, 0xa1, 0x61, 0xcf, 0x7f, 0, 0, 0, 0, 0, 0, 0), { a: 0x7f00000000000000n })
  t.same(decode(0x81, 0xa1, 0x61, 0xc4, 2, 1, 2), { a: Buffer.from([1, 2]) })
})

t.test('refused before anything is allocated for it', async (t) => {
  const cases: Record<string, number[]> = {
    'not a map': [0x93, 1, 2, 3],
    'a map of four billion': [0xdf, 0xff, 0xff, 0xff, 0xff],
    'a list of four billion': [0x81, 0xa1, 0x61, 0xdd, 0xff, 0xff, 0xff, 0xff],
    'a string of four billion': [0x81, 0xa1, 0x61, 0xdb, 0xff, 0xff, 0xff, 0xff],
    'cut off': [0x82, 0xa1, 0x61, 0x01],
    'bytes after it': [0x80, 0x00],
    'a key that is a number': [0x81, 0x01, 0x01],
    'an extension': [0x81, 0xa1, 0x61, 0xd4, 0x72, 0x40],
    'a type that is reserved': [0x81, 0xa1, 0x61, 0xc1],
    'too deep': [0x81, 0xa1, 0x61, 0x91, 0x91, 0x91, 0x90],
  }
  for (const [name, bytes] of Object.entries(cases)) t.throws(() => decode(...bytes), { code: 'bad_data' }, name)
  t.same(decode(0x81, 0xa1, 0x61, 0x91, 0x91, 0x91, 0x01), { a: [[[1]]] }, 'four levels, the outer map is one of them')
  t.same(decode(0x82, 0xa1, 0x61, 0x01, 0xa1, 0x61, 0x02), { a: 2 }, 'a key that comes twice')
  const many = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`k${n}`, n]))
  t.throws(() => decodeData(packr.pack(many), LIMITS), { code: 'bad_data' })
  t.throws(() => decodeData(packr.pack({ a: 'x'.repeat(1_000) }), LIMITS), { code: 'bad_data' })
})

t.test('a key cannot reach into the prototype', async (t) => {
  const hostile = decode(0x81, 0xa9, ...Buffer.from('__proto__'), 0x81, 0xa1, 0x78, 0x01)
  t.equal(Object.getPrototypeOf(hostile), Object.prototype)
  t.equal(hostile.x, undefined)
})

t.test('any bytes decode or are bad_data; what JSON has always decodes', async () => {
  const decodes = (bytes: Uint8Array) => {
    try {
      return typeof decodeData(bytes, LIMITS) === 'object'
    } catch (error) {
      return error instanceof DeviceError && error.code === 'bad_data'
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), decodes), { numRuns: 2_000 })
  const asMap = fc.uint8Array({ maxLength: 60 }).map((bytes) => new Uint8Array([0x82, ...bytes]))
  fc.assert(fc.property(asMap, decodes), { numRuns: 2_000 })
})
