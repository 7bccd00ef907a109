/** Random frames encode alike in both codecs and decode to themselves. fast-check prints the seed of a failure. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { decodeFrames, readFrames } from '../../protocol/decode.js'
import {
  EncodeError,
  encodeFrame,
  encodeFrames,
  encodeNotify,
  encodeNotifyGroupBody,
  encodeNotifyGroupFrame,
  GROUP_REGISTRATIONS_MAX,
} from '../../protocol/encode.js'
import {
  DEVICE_FRAME_BYTES_MAX,
  FrameType,
  SERVER_FRAME_BYTES_MAX,
  type Sender,
  senderOfType,
} from '../../protocol/frame.js'
import {
  type DeviceFrame,
  type Frame,
  GAP_REASONS,
  GOAWAY_REASONS,
  type NotifyFrame,
  type NotifyGroupFrame,
  PRIORITIES,
  type ServerFrame,
} from '../../protocol/frame-types.js'
import { frameToJson } from '../../protocol/json-form.js'
import type { JsonFrame } from './naive.js'
import { naiveEncode } from './naive-encode.js'
import { decode, hexOf, limitOf, oracle } from './support.js'

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const safe = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 127, 128, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER))
const fixed64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const text = fc.string({ unit: 'binary', maxLength: 200 })
const bytes = fc.uint8Array({ maxLength: 200 })
const none = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null })
const is = <T extends string>(type: T) => fc.constant(type)

const cursor = none(fc.record({ incarnation: fixed64, sequence: safe, subscriptions: u32 }))
const mark = none(fc.record({ queue: fixed64, count: u32 }))
const content = {
  expiresAtSeconds: u32,
  priority: fc.constantFrom(...PRIORITIES),
  collapseKey: text,
  title: text,
  message: text,
  data: bytes,
}

const credential = fc.oneof(
  fc.record({ kind: is('token'), token: text }),
  fc.record({ kind: is('ticket'), ticket: bytes }),
)
const topicRequest = { request: u32, registration: u32, topic: text }

const deviceFrame: fc.Arbitrary<DeviceFrame> = fc.oneof(
  fc.record({
    type: is('HELLO'),
    version: u32,
    credential: none(credential),
    connection: safe,
    client: none(fc.record({ name: text, version: text, platform: text })),
    cursor,
    gap: mark,
  }),
  fc.record({ type: is('ACK'), ids: fc.array(fixed64, { maxLength: 300 }) }),
  fc.record({ type: is('REGISTER'), request: u32, application: text, userToken: text }),
  fc.record({ type: is('UNREGISTER'), request: u32, registration: u32 }),
  fc.record({ type: is('SUBSCRIBE'), ...topicRequest }),
  fc.record({ type: is('UNSUBSCRIBE'), ...topicRequest }),
  fc.record({ type: fc.constantFrom('PING', 'BYE') }),
)

const notify: fc.Arbitrary<NotifyFrame> = fc.record({ type: is('NOTIFY'), id: fixed64, registration: u32, ...content })
const notifyGroup: fc.Arbitrary<NotifyGroupFrame> = fc.record({
  type: is('NOTIFY_GROUP'),
  id: fixed64,
  sequence: safe,
  target: none(fc.record({ kind: fc.constantFrom('app', 'topic', 'user'), name: text })),
  project: text,
  registrations: fc.array(u32, { maxLength: 64 }),
  ...content,
})

const serverFrame: fc.Arbitrary<ServerFrame> = fc.oneof(
  fc.record({
    type: is('WELCOME'),
    serverTimeMs: safe,
    keepaliveSeconds: u32,
    limits: fc.record({ frameBytesMax: u32, window: u32, registrationsMax: u32, topicsMax: u32 }),
    subscriptions: u32,
    ticket: bytes,
    ticketSeconds: u32,
  }),
  notify,
  notifyGroup,
  fc.record({ type: is('CAUGHT_UP'), cursor }),
  fc.record({
    type: is('REGISTERED'),
    request: u32,
    registration: u32,
    registrationId: text,
    subscriptions: u32,
    project: text,
  }),
  fc.record({ type: is('DONE'), request: u32, subscriptions: u32 }),
  fc.record({ type: is('GAP'), count: u32, reason: fc.constantFrom(...GAP_REASONS), mark }),
  fc.record({
    type: is('GOAWAY'),
    reason: fc.constantFrom(...GOAWAY_REASONS),
    afterMs: u32,
    jitterMs: u32,
    url: text,
  }),
  fc.record({ type: is('ERROR'), code: text, detail: text, request: u32, retryAfterMs: u32, connection: safe }),
  fc.record({ type: is('PONG') }),
)

/** Throws if the codecs differ, or if one of them does not decode the frames to themselves. */
function checkBothCodecs(from: Sender, frames: Frame[]): void {
  const json = frames.map(frameToJson) as JsonFrame[]
  const encoded = encodeFrames(frames)
  const expected = { frames: json, error: null, offset: 0 }
  assert.equal(hexOf(encoded), hexOf(json.flatMap(naiveEncode)))
  assert.deepEqual(decode(encoded, from), expected)
  assert.deepEqual(oracle(encoded, from), expected)
}

t.test('random frames of a device encode alike in both codecs and decode to themselves', async (t) => {
  fc.assert(
    fc.property(fc.array(deviceFrame, { minLength: 1, maxLength: 4 }), (frames) => checkBothCodecs('device', frames)),
  )
  t.pass('every property held')
})

t.test('random frames of a server encode alike in both codecs and decode to themselves', async (t) => {
  fc.assert(
    fc.property(fc.array(serverFrame, { minLength: 1, maxLength: 4 }), (frames) => checkBothCodecs('server', frames)),
  )
  t.pass('every property held')
})

t.test('a NOTIFY_GROUP made from a stored body and a sequence equals the frame encoded at once', async (t) => {
  fc.assert(
    fc.property(notifyGroup, (frame) => {
      const { type: _, sequence, registrations, ...group } = frame
      const framed = encodeNotifyGroupFrame(encodeNotifyGroupBody(group), sequence, registrations)
      return hexOf(framed) === hexOf(encodeFrame(frame))
    }),
  )
  t.pass('every property held')
})

t.test('encodeNotify() encodes as encodeFrame() does', async (t) => {
  fc.assert(
    fc.property(notify, (frame) => {
      const { type: _, ...rest } = frame
      return hexOf(encodeNotify(rest)) === hexOf(encodeFrame(frame))
    }),
  )
  t.pass('every property held')
})

const aNotify: Omit<NotifyFrame, 'type'> = {
  id: 1n,
  registration: 1,
  expiresAtSeconds: 0,
  priority: 'normal',
  collapseKey: '',
  title: '',
  message: '',
  data: new Uint8Array(),
}

t.test('a value that does not fit its field is refused by the encoder as out_of_range', async (t) => {
  const outOfRange = { name: 'EncodeError', code: 'out_of_range' }
  for (const id of [-1n, 2n ** 64n]) t.throws(() => encodeNotify({ ...aNotify, id }), outOfRange)
  for (const registration of [-1, 0.5, 2 ** 32, Number.NaN]) {
    t.throws(() => encodeNotify({ ...aNotify, registration }), outOfRange, `registration ${registration}`)
  }
  for (const sequence of [-1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY]) {
    t.throws(() => encodeNotifyGroupFrame(new Uint8Array(), sequence), outOfRange, `sequence ${sequence}`)
    const cursor = { incarnation: 1n, sequence, subscriptions: 0 }
    t.throws(() => encodeFrame({ type: 'CAUGHT_UP', cursor }), outOfRange, `cursor ${sequence}`)
  }
  for (const registrations of [[-1], [0.5], [2 ** 32], Array.from({ length: GROUP_REGISTRATIONS_MAX + 1 }, () => 1)]) {
    t.throws(() => encodeNotifyGroupFrame(new Uint8Array(), 1, registrations), outOfRange, String(registrations))
  }
})

t.test('a NOTIFY of the greatest length is encoded, and one byte more is refused as frame_too_large', async (t) => {
  const frame = (size: number) => encodeNotify({ ...aNotify, data: new Uint8Array(size) })
  const overhead = frame(30_000).length - 3 - 30_000
  const most = SERVER_FRAME_BYTES_MAX - overhead
  t.equal(decode(frame(most), 'server').error, null)
  t.throws(() => frame(most + 1), EncodeError)
  t.throws(() => frame(most + 1), { code: 'frame_too_large' })
})

t.test('an ACK of the greatest length is encoded, and one id more is refused as frame_too_large', async (t) => {
  const ack = (count: number) => encodeFrame({ type: 'ACK', ids: Array.from({ length: count }, (_, i) => BigInt(i)) })
  const ids = Math.floor((DEVICE_FRAME_BYTES_MAX - 4) / 8)
  t.equal(decode(ack(ids), 'device').error, null)
  t.throws(() => ack(ids + 1), { code: 'frame_too_large' })
})

t.test(
  'a NOTIFY_GROUP body is refused as frame_too_large unless it fits with any sequence and registrations',
  async (t) => {
    const group = { ...aNotify, target: null, project: '', data: new Uint8Array(SERVER_FRAME_BYTES_MAX - 350) }
    const body = encodeNotifyGroupBody(group)
    const registrations = Array.from({ length: GROUP_REGISTRATIONS_MAX }, () => 2 ** 32 - 1)
    const longest = encodeNotifyGroupFrame(body, Number.MAX_SAFE_INTEGER, registrations)
    t.equal(decode(longest, 'server').error, null)
    t.throws(() => encodeNotifyGroupBody({ ...group, data: new Uint8Array(SERVER_FRAME_BYTES_MAX - 340) }), {
      code: 'frame_too_large',
    })
  },
)

t.test(
  'the encoder replaces half a surrogate pair by U+FFFD, because devices refuse text that is not UTF-8',
  async (t) => {
    const { frames, fault } = decodeFrames(
      encodeNotify({ ...aNotify, title: 'a\ud800b\udc00', message: '\ud83d\ude00' }),
      {
        from: 'server',
        frameBytesMax: limitOf('server'),
      },
    )
    t.equal(fault, null)
    t.match(frames, [{ title: 'a\ufffdb\ufffd', message: '\ud83d\ude00' }])
  },
)

t.test('decoded frames keep their bytes when the message is overwritten', async (t) => {
  const message = encodeNotify({ ...aNotify, data: Uint8Array.of(1, 2, 3) })
  const { frames } = decodeFrames(message, { from: 'server', frameBytesMax: limitOf('server') })
  message.fill(0xff)
  t.match(frames, [{ data: Uint8Array.of(1, 2, 3) }])
})

t.test('readFrames() stops after the frame for which the receiver returns false, before a later fault', async (t) => {
  const seen: string[] = []
  const fault = readFrames(
    Uint8Array.of(1, 7, 1, 8, 0),
    { from: 'device', frameBytesMax: limitOf('device') },
    (frame) => {
      seen.push(frame.type)
      return frame.type !== 'BYE'
    },
  )
  t.strictSame(seen, ['PING', 'BYE'])
  t.equal(fault, null)
})

t.test('each frame type is accepted from its sender, and refused from the other as unexpected_frame', async (t) => {
  for (const [name, type] of Object.entries(FrameType)) {
    const frame = Uint8Array.of(1, type)
    const other = senderOfType(type) === 'device' ? 'server' : 'device'
    t.equal(decode(frame, other).error, 'unexpected_frame', `${name} from a ${other}`)
    t.equal(decode(frame, senderOfType(type)).error, null, `${name} from a ${senderOfType(type)}`)
  }
})
