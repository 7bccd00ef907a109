import t from 'tap'
import { encodeFrame, encodeFrames } from '../../protocol/encode.js'
import { FrameType } from '../../protocol/frame.js'
import { frameFromJson } from './from-json.js'
import { naiveEncode } from './naive-encode.js'
import { allVectors, bytesOf, decode, hexOf, oracle, readVectors } from './support.js'

const canonical = [...readVectors('device'), ...readVectors('server')]

t.test('each frame of the vectors encodes to its bytes, and its bytes decode to it, in both codecs', async (t) => {
  for (const { name, from, hex, frames } of canonical) {
    t.equal(frames.length, 1, name)
    t.equal(hexOf(encodeFrames(frames.map(frameFromJson))), hex, `${name}: encoder`)
    t.equal(hexOf(frames.flatMap(naiveEncode)), hex, `${name}: naive encoder`)
    t.strictSame(decode(bytesOf(hex), from), { frames, error: null, offset: 0 }, `${name}: decoder`)
    t.strictSame(oracle(bytesOf(hex), from), { frames, error: null, offset: 0 }, `${name}: naive decoder`)
  }
  const types = new Set(canonical.flatMap(({ frames }) => frames.map((frame) => frame.type)))
  t.strictSame([...types].sort(), Object.keys(FrameType).sort(), 'each frame type has a vector')
})

t.test('both decoders accept the messages that a receiver must accept', async (t) => {
  for (const { name, from, hex, frames } of readVectors('lenient')) {
    t.strictSame(decode(bytesOf(hex), from), { frames, error: null, offset: 0 }, name)
    t.strictSame(oracle(bytesOf(hex), from), { frames, error: null, offset: 0 }, `${name}: naive`)
  }
})

t.test('both decoders refuse the messages that a receiver must refuse', async (t) => {
  for (const { name, from, hex, frames, error = null, offset = -1 } of readVectors('invalid')) {
    t.strictSame(decode(bytesOf(hex), from), { frames, error, offset }, name)
    t.strictSame(oracle(bytesOf(hex), from), { frames, error, offset }, `${name}: naive`)
  }
  const codes = new Set(readVectors('invalid').map(({ error }) => error))
  t.strictSame([...codes].sort(), ['frame_too_large', 'protocol_error', 'unexpected_frame'])
})

t.test('a message that is cut anywhere decodes to the whole frames before the cut, and then a fault', async (t) => {
  let cuts = 0
  for (const { name, from, hex } of allVectors) {
    const bytes = bytesOf(hex)
    const numbers = [...bytes]
    const whole = decode(bytes, from)
    for (let end = 0; end < bytes.length; end++) {
      const expected = oracle(numbers.slice(0, end), from)
      const actual = decode(bytes.subarray(0, end), from)
      cuts++
      // Only differences are asserted one by one, because there are tens of thousands of cuts.
      if (JSON.stringify(actual) !== JSON.stringify(expected)) t.strictSame(actual, expected, `${name}, cut at ${end}`)
      const frames = whole.frames.slice(0, actual.frames.length)
      if (JSON.stringify(actual.frames) !== JSON.stringify(frames))
        t.strictSame(actual.frames, frames, `${name}: ${end}`)
    }
  }
  const bytesInAll = allVectors.reduce((sum, { hex }) => sum + hex.length / 2, 0)
  t.equal(cuts, bytesInAll, 'every cut was compared')
})

t.test('a frame decodes to the same value with other frames before and after it', async (t) => {
  const ping = encodeFrame({ type: 'PING' })
  const pong = encodeFrame({ type: 'PONG' })
  for (const { name, from, hex, frames } of canonical) {
    const other = from === 'device' ? ping : pong
    const between = decode(Uint8Array.from([...other, ...bytesOf(hex), ...other]), from)
    t.equal(between.error, null, name)
    t.strictSame(between.frames[1], frames[0], name)
  }
})
