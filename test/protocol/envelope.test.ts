import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Packr } from 'msgpackr'
import t from 'tap'
import { encodeNotifyGroupFrame } from '../../protocol/encode.js'
import * as envelope from '../../protocol/envelope.js'
import { decode, hexOf } from './support.js'

const id = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n })
const safe = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 127, 128, 2 ** 31, 2 ** 32, 2 ** 53 - 1))
const text = fc.string({ unit: 'binary', maxLength: 40 })
const bytes = fc.uint8Array({ maxLength: 100 })

const stored: fc.Arbitrary<envelope.StoredMessage> = fc.record({
  id,
  parent: id,
  project: text,
  application: text,
  device: text,
  registration: safe,
  acceptedAtMs: safe,
  expiresAtMs: safe,
  collapseKey: text,
  frame: bytes,
})
const txItem = fc.record({ id, device: text, expiresAtMs: safe, frame: bytes })
const report = fc.constantFrom(...Object.values(envelope.Report))
const rxItem = fc.record({ id, device: text, report, atMs: safe })
const settleItem = fc.record({ id, device: text, project: text, application: text, queueSequence: safe, atMs: safe })

interface Codec {
  values: fc.Arbitrary<unknown>
  encode(value: never): Uint8Array
  decode(bytes: Uint8Array): unknown
}

const codecs: Record<string, Codec> = {
  'stored message': { values: stored, encode: envelope.encodeStoredMessage, decode: envelope.decodeStoredMessage },
  'queued record': {
    values: fc.record({
      previous: safe,
      depth: safe,
      queue: id,
      dropped: safe,
      evicted: fc.array(id),
      queuedAtMs: safe,
      message: stored,
      older: fc.array(safe),
    }),
    encode: envelope.encodeQueueRecord,
    decode: envelope.decodeQueueRecord,
  },
  'broadcast record': {
    values: fc.record({
      id,
      project: text,
      kind: fc.constantFrom('app', 'topic', 'user'),
      name: text,
      acceptedAtMs: safe,
      expiresAtMs: safe,
      collapseKey: text,
      body: bytes,
    }),
    encode: envelope.encodeBroadcastRecord,
    decode: envelope.decodeBroadcastRecord,
  },
  'tx batch': {
    values: fc.record({ router: text, atMs: fc.option(safe), items: fc.array(txItem) }),
    encode: envelope.encodeTxBatch,
    decode: envelope.decodeTxBatch,
  },
  'rx batch': {
    values: fc.record({ instance: text, worker: text, items: fc.array(rxItem) }),
    encode: envelope.encodeRxBatch,
    decode: envelope.decodeRxBatch,
  },
  'settle request': {
    values: fc.record({ instance: text, worker: text, items: fc.array(settleItem) }),
    encode: envelope.encodeSettleRequest,
    decode: envelope.decodeSettleRequest,
  },
  'settle reply': { values: fc.array(safe), encode: envelope.encodeSettleReply, decode: envelope.decodeSettleReply },
  'control request': {
    values: fc.oneof(
      fc.record({ kind: fc.constantFrom('catch_up', 'refresh'), device: text }),
      fc.record({
        kind: fc.constant('close'),
        device: text,
        reason: fc.constantFrom('replaced', 'revoked'),
        belowConnection: safe,
      }),
    ),
    encode: envelope.encodeControlRequest,
    decode: envelope.decodeControlRequest,
  },
  'control reply': {
    values: fc.constantFrom('here', 'not_here'),
    encode: envelope.encodeControlReply,
    decode: envelope.decodeControlReply,
  },
}

const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })

for (const [name, codec] of Object.entries(codecs)) {
  t.test(`each ${name} decodes to the value that was encoded`, async (t) => {
    fc.assert(
      fc.property(codec.values, (value) => {
        assert.deepEqual(plain(codec.decode(codec.encode(value as never))), plain(value))
      }),
      { numRuns: 60 },
    )
    t.pass('every property held')
  })

  const [sample] = fc.sample(codec.values, { numRuns: 1, seed: 1 })
  const encoded = codec.encode(sample as never)

  t.test(`a ${name} begins with its version, and one of another version is refused`, async (t) => {
    const fields = packr.unpack(encoded) as unknown[]
    t.equal(fields[0], envelope.ENVELOPE_VERSION)
    const ofVersion = (version: number) => packr.pack([version, ...fields.slice(1)])
    t.throws(() => codec.decode(ofVersion(2)), { name: 'EnvelopeError', message: /version 2 is unknown/ })
    t.doesNotThrow(() => codec.decode(ofVersion(1)))
  })

  t.test(`a ${name} that is cut short, or a map, is refused`, async (t) => {
    for (let end = 0; end < encoded.length; end++) {
      t.throws(() => codec.decode(encoded.subarray(0, end)), { name: 'EnvelopeError' }, `cut at ${end}`)
    }
    t.throws(() => codec.decode(packr.pack({ v: 1 })), { name: 'EnvelopeError' }, 'a map')
  })
}

t.test(
  'a tx batch has its time where a decoder of the version before ignores it, and decodes without one',
  async (t) => {
    const item = { id: 1n, device: 'd', expiresAtMs: 1_700_000_000_000, frame: new Uint8Array([1]) }
    const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })
    for (const items of [[], [item], [item, item]]) {
      const batch = { router: 'r', atMs: 1_699_999_990_000, items }
      const fields = packr.unpack(envelope.encodeTxBatch(batch)) as unknown[]
      const read = []
      for (let i = 2; i + 3 < fields.length; i += 4) read.push(fields[i + 1])
      t.same(
        read,
        items.map(({ device }) => device),
        'as the version before reads it',
      )
      const older = envelope.decodeTxBatch(packr.pack(fields.slice(0, -1)))
      t.equal(older.atMs, null, 'of a router of the version before')
      t.equal(older.items.length, items.length)
    }
  },
)

t.test('requests and replies of devices decode to the values that were encoded', async (t) => {
  const requests: envelope.DeviceRequest[] = [
    { kind: 'register', device: 'd', application: 'a', userToken: '' },
    { kind: 'unregister', device: 'd', registration: 1 },
    { kind: 'subscribe', device: 'd', registration: 2, topic: 't' },
    { kind: 'unsubscribe', device: 'd', registration: 2 ** 32 - 1, topic: 't' },
  ]
  for (const request of requests) t.match(envelope.decodeDeviceRequest(envelope.encodeDeviceRequest(request)), request)
  const replies: envelope.DeviceReply[] = [
    { ok: true, registration: 1, registrationId: 'r', project: 'acme', subscriptions: 3 },
    { ok: false, code: 'unavailable', detail: '', retryAfterMs: 1_000 },
  ]
  for (const reply of replies) t.match(envelope.decodeDeviceReply(envelope.encodeDeviceReply(reply)), reply)
})

t.test('bytes that are no request or reply of a device are refused', async (t) => {
  for (const wrong of [new Packr().pack([1]), new Packr().pack({ v: 9 }), Uint8Array.of(0xc1), new Uint8Array()]) {
    t.throws(() => envelope.decodeDeviceRequest(wrong), { name: 'EnvelopeError' })
    t.throws(() => envelope.decodeDeviceReply(wrong), { name: 'EnvelopeError' })
  }
})

t.test('the body of a decoded broadcast record makes a NOTIFY_GROUP frame with its sequence', async (t) => {
  const body = Uint8Array.from(Buffer.from('090900000000000000', 'hex'))
  const record = envelope.decodeBroadcastRecord(
    envelope.encodeBroadcastRecord({
      id: 9n,
      project: 'p',
      kind: 'topic',
      name: 't',
      acceptedAtMs: 1,
      expiresAtMs: 2,
      collapseKey: '',
      body,
    }),
  )
  t.equal(hexOf(record.body), hexOf(body))
  t.match(decode(encodeNotifyGroupFrame(record.body, 300), 'server').frames, [{ id: '9', sequence: 300 }])
})

/** Replaces byte arrays of any class by their hex, so that they can be compared. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { hex: hexOf(value) }
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
}
