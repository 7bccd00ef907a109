import fc from 'fast-check'
import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeData } from '../../src/device/data.js'
import { DeviceError } from '../../src/device/errors.js'

const LIMITS = { dataBytesMax: 1_000, dataItemsMax: 50, dataDepthMax: 4 }
const packr = new Packr({ useRecords: false })
const decode = (...bytes: number[]) => decodeData(new Uint8Array(bytes), LIMITS)

t.test('every JSON type is decoded', async (t) => {
  const value = { text: 'é', int: -3, big: 5e9, float: 1.5, yes: true, none: null, list: [1, [2]], map: { a: {} } }
  t.same(decodeData(packr.pack(value), LIMITS), value)
})

t.test('no bytes are decoded as an empty object', async (t) => {
  t.same(decodeData(new Uint8Array(0), LIMITS), {})
})

t.test('an integer is a number where that is exact, and a bigint beyond', async (t) => {
  t.same(decode(0x81, 0xa1, 0x61, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0), { a: 2 ** 32 })
  t.same(decode(0x81, 0xa1, 0x61, 0xcf, 0x7f, 0, 0, 0, 0, 0, 0, 0), { a: 0x7f00000000000000n })
})

t.test('a binary value is decoded as a Buffer', async (t) => {
  t.same(decode(0x81, 0xa1, 0x61, 0xc4, 2, 1, 2), { a: Buffer.from([1, 2]) })
})

t.test('malformed data, types that JSON lacks, and declared sizes above the limits are bad_data', async (t) => {
  const cases: Record<string, number[]> = {
    'not a map': [0x93, 1, 2, 3],
    'a map of four billion': [0xdf, 0xff, 0xff, 0xff, 0xff],
    'a list of four billion': [0x81, 0xa1, 0x61, 0xdd, 0xff, 0xff, 0xff, 0xff],
    'a string of four billion': [0x81, 0xa1, 0x61, 0xdb, 0xff, 0xff, 0xff, 0xff],
    'cut off': [0x82, 0xa1, 0x61, 0x01],
    'bytes after the map': [0x80, 0x00],
    'a key that is a number': [0x81, 0x01, 0x01],
    'an extension': [0x81, 0xa1, 0x61, 0xd4, 0x72, 0x40],
    'a reserved type': [0x81, 0xa1, 0x61, 0xc1],
    'five levels': [0x81, 0xa1, 0x61, 0x91, 0x91, 0x91, 0x90],
  }
  for (const [name, bytes] of Object.entries(cases)) t.throws(() => decode(...bytes), { code: 'bad_data' }, name)
})

t.test('data as deep as dataDepthMax is decoded', async (t) => {
  t.same(decode(0x81, 0xa1, 0x61, 0x91, 0x91, 0x91, 0x01), { a: [[[1]]] }, 'four levels with the outer map')
})

t.test('the last value of a repeated key counts', async (t) => {
  t.same(decode(0x82, 0xa1, 0x61, 0x01, 0xa1, 0x61, 0x02), { a: 2 })
})

t.test('more items than dataItemsMax or more bytes than dataBytesMax are bad_data', async (t) => {
  const manyItems = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`k${n}`, n]))
  t.throws(() => decodeData(packr.pack(manyItems), LIMITS), { code: 'bad_data' })
  t.throws(() => decodeData(packr.pack({ a: 'x'.repeat(1_000) }), LIMITS), { code: 'bad_data' })
})

t.test('the key __proto__ does not change the prototype', async (t) => {
  const hostile = decode(0x81, 0xa9, ...Buffer.from('__proto__'), 0x81, 0xa1, 0x78, 0x01)
  t.equal(Object.getPrototypeOf(hostile), Object.prototype)
  t.equal(hostile.x, undefined)
})

t.test('random bytes are decoded to an object or are bad_data', async () => {
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
