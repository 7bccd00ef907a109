/** soleAckId(), the fast path for an ACK of one message, agrees with the decoder and leaves all other messages to it. */
import fc from 'fast-check'
import t from 'tap'
import { soleAckId } from '../../protocol/ack.js'
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrame } from '../../protocol/encode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'

const id = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n })
const OPTIONS = { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX } as const

/** Puts the bytes into a larger buffer, as they come from a socket. */
const within = (bytes: Uint8Array, at: number) => {
  const large = new Uint8Array(at + bytes.length + 3)
  large.set(bytes, at)
  return large.subarray(at, at + bytes.length)
}

t.test('soleAckId reads the id of an ACK of one message, at any place of a buffer', (t) => {
  fc.assert(
    fc.property(id, fc.nat(20), (id, at) => soleAckId(within(encodeFrame({ type: 'ACK', ids: [id] }), at)) === id),
  )
  t.pass()
  t.end()
})

t.test('for a changed or cut ACK, soleAckId returns null or the id that the decoder reads', (t) => {
  const ack = encodeFrame({ type: 'ACK', ids: [(1n << 62n) + 5n] })
  let idsRead = 0
  fc.assert(
    fc.property(fc.nat(ack.length - 1), fc.nat(255), fc.nat(2), (at, byte, cut) => {
      const bytes = ack.slice(0, ack.length - cut)
      if (at < bytes.length) bytes[at] = byte
      const id = soleAckId(bytes)
      if (id === null) return true
      idsRead++
      const { frames, fault } = decodeFrames(bytes, OPTIONS)
      const [frame] = frames
      return fault === null && frames.length === 1 && frame?.type === 'ACK' && frame.ids[0] === id
    }),
    { numRuns: 5_000 },
  )
  t.ok(idsRead > 0)
  t.end()
})

t.test('soleAckId returns null for an ACK of two messages, other frames, and two frames in one message', (t) => {
  const ack = encodeFrame({ type: 'ACK', ids: [(1n << 62n) + 5n] })
  const others = [encodeFrame({ type: 'ACK', ids: [1n, 2n] }), encodeFrame({ type: 'PING' }), new Uint8Array()]
  t.same(others.map(soleAckId), [null, null, null])
  t.equal(soleAckId(Buffer.concat([ack, ack])), null, 'two frames in one message')
  t.end()
})
