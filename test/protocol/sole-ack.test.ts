/** The short way for an ACK of one message reads what the decoder reads, and leaves everything else to it. */
import fc from 'fast-check'
import t from 'tap'
import { soleAckId } from '../../protocol/ack.js'
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrame } from '../../protocol/encode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'

const id = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n })
const OPTIONS = { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX } as const

/** As it comes from a socket: somewhere within a larger buffer. */
const within = (bytes: Uint8Array, at: number) => {
  const large = new Uint8Array(at + bytes.length + 3)
  large.set(bytes, at)
  return large.subarray(at, at + bytes.length)
}

t.test('the id of an ACK of one message is read from its bytes', (t) => {
  fc.assert(
    fc.property(id, fc.nat(20), (one, at) => soleAckId(within(encodeFrame({ type: 'ACK', ids: [one] }), at)) === one),
  )
  t.pass()
  t.end()
})

t.test('every message that is read in place decodes to the same id, and every other one gives null', (t) => {
  const ack = encodeFrame({ type: 'ACK', ids: [(1n << 62n) + 5n] })
  let taken = 0
  fc.assert(
    fc.property(fc.nat(ack.length - 1), fc.nat(255), fc.nat(2), (at, byte, cut) => {
      const bytes = ack.slice(0, ack.length - cut)
      if (at < bytes.length) bytes[at] = byte
      const short = soleAckId(bytes)
      if (short === null) return true
      taken++
      const { frames, fault } = decodeFrames(bytes, OPTIONS)
      const [frame] = frames
      return fault === null && frames.length === 1 && frame?.type === 'ACK' && frame.ids[0] === short
    }),
    { numRuns: 5_000 },
  )
  t.ok(taken > 0)
  const others = [encodeFrame({ type: 'ACK', ids: [1n, 2n] }), encodeFrame({ type: 'PING' }), new Uint8Array()]
  t.same(others.map(soleAckId), [null, null, null])
  t.equal(soleAckId(Buffer.concat([ack, ack])), null, 'two frames in one message')
  t.end()
})
