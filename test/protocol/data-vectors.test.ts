/** protocol/vectors/data.json: the attributes of a notification, which the service encodes and a device decodes. */
import t from 'tap'
import { parseJson } from '../../src/core/domain/json.js'
import { encodeMsgpack } from '../../src/core/domain/msgpack/encode.js'
import { decodeData } from '../../src/device/data.js'
import { deviceSettings } from '../../src/device/settings.js'
import { bytesOf, hexOf, readText } from './support.js'

interface DataVectors {
  accept: { name: string; hex: string; value: string }[]
  refuse: { name: string; hex: string }[]
  either: { name: string; hex: string }[]
  sent: { name: string; json: string; hex: string }[]
}

const vectors = JSON.parse(readText('protocol/vectors/data.json')) as DataVectors
const read = (hex: string) => decodeData(bytesOf(hex), deviceSettings())

t.test('the device library decodes the attributes that a device must accept', async (t) => {
  for (const { name, hex, value } of vectors.accept) t.equal(notation(read(hex)), value, name)
})

t.test('the device library refuses the attributes that a device must refuse, as bad_data', async (t) => {
  for (const { name, hex } of vectors.refuse) t.throws(() => read(hex), { code: 'bad_data' }, name)
})

t.test(
  'the device library decodes strings that are not UTF-8 with U+FFFD, one of the two allowed results',
  async (t) => {
    for (const { name, hex } of vectors.either) t.match(notation(read(hex)), '\ufffd', name)
  },
)

t.test(
  'the service encodes JSON attributes as the vectors have them, and the device library decodes them',
  async (t) => {
    for (const { name, json, hex } of vectors.sent) {
      const written = encodeMsgpack(parseJson(Buffer.from(json)), { bytesMax: 4_096, depthMax: 16 })
      t.equal(hexOf(written), hex, name)
      t.doesNotThrow(() => read(hex), name)
    }
  },
)

/** The diagnostic notation of RFC 8949, section 8. */
function notation(value: unknown): string {
  if (value instanceof Uint8Array) return `h'${hexOf(value)}'`
  if (Array.isArray(value)) return `[${value.map(notation).join(', ')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, inner]) => `${JSON.stringify(key)}: ${notation(inner)}`)
    return `{${entries.join(', ')}}`
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}
