import { unpack } from 'msgpackr'
import t from 'tap'
import { Value } from 'typebox/value'
import { CodedError } from '../../protocol/errors.js'
import { parseJson } from '../../src/core/domain/json.js'
import { MessageLimits } from '../../src/core/domain/limits.js'
import { messageFormat, parseTtl } from '../../src/core/domain/message.js'

const limits = Value.Create(MessageLimits)
const { read } = messageFormat(limits)
const good = { target: 'some-registration-id', type: 'device', ttl: '5h30m' }

function refusal(body: unknown): { code: string; field: unknown } {
  try {
    read(body, 0)
    return { code: 'none', field: undefined }
  } catch (error) {
    if (error instanceof CodedError) return { code: error.code, field: error.details.field }
    throw error
  }
}

const withNotification = (notification: unknown) => ({ ...good, notification })

t.test('parseTtl takes whole days, hours, minutes and seconds in this order, and nothing else', async (t) => {
  const milliseconds: Record<string, number | null> = {
    '0s': 0,
    '0h0m0s': 0,
    '90s': 90_000,
    '5h30m': 19_800_000,
    '1h1s': 3_601_000,
    '672h': 28 * 86_400_000,
    '999999999h': 999_999_999 * 3_600_000,
    '': null,
    '5': null,
    '2d': 2 * 86_400_000,
    '1d12h': 36 * 3_600_000,
    '1d2h3m4s': 93_784_000,
    '28d': 28 * 86_400_000,
    '12h1d': null,
    '5D': null,
    '1w': null,
    '-5s': null,
    '+5s': null,
    '1.5h': null,
    '5S': null,
    '5 s': null,
    ' 5s': null,
    '5s\n': null,
    '5m5h': null,
    '5s5s': null,
    '1e3s': null,
    '٥s': null,
    '9999999999h': null,
  }
  for (const [text, ms] of Object.entries(milliseconds)) t.equal(parseTtl(text), ms, JSON.stringify(text))
})

t.test('a message without optional fields gets their defaults', async (t) => {
  const send = read(good, 0)
  t.match(send, {
    type: 'device',
    targets: ['some-registration-id'],
    ttlMs: 19_800_000,
    priority: 'normal',
    collapseKey: '',
    title: '',
    message: '',
    warnings: ['the push is empty: it has no title, no message and no data'],
  })
  t.equal(send.data.length, 0, 'absent data is encoded as no bytes')
})

t.test('a message with every field is read with all of their values', async (t) => {
  const data = { mtype: 'action', count: 3, nested: { list: [1, null, true, 'ü'] } }
  const send = read(
    {
      target: ['a', 'b'],
      type: 'devices',
      ttl: '0s',
      priority: 'high',
      collapseKey: 'k'.repeat(64),
      notification: { title: 'T', message: 'M', data },
    },
    0,
  )
  t.same(send.targets, ['a', 'b'])
  t.equal(send.ttlMs, 0)
  t.equal(send.priority, 'high')
  t.same(unpack(send.data), data)
})

t.test('title and message are limited in characters, however many bytes a character has', async (t) => {
  const emoji = '🦌'
  for (const [field, max] of [
    ['title', 512],
    ['message', 2_048],
  ] as const) {
    t.equal(refusal(withNotification({ [field]: emoji.repeat(max) })).code, 'none', `${max} characters of four bytes`)
    t.same(refusal(withNotification({ [field]: `${emoji.repeat(max)}.` })), {
      code: 'invalid_request',
      field: `notification.${field}`,
    })
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(max) })).code, 'none')
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(max + 1) })).code, 'invalid_request')
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(400_000) })).code, 'invalid_request')
  }
})

t.test('data is limited in encoded bytes: 4,096 are accepted, 4,097 are payload_too_large', async (t) => {
  // The map, the key "k" and the length of the text take 1 + 2 + 3 bytes.
  t.equal(refusal(withNotification({ data: { k: 'x'.repeat(4_090) } })).code, 'none')
  t.same(refusal(withNotification({ data: { k: 'x'.repeat(4_091) } })), {
    code: 'payload_too_large',
    field: 'notification.data',
  })
  t.equal(refusal(withNotification({ data: { k: 'ü'.repeat(4_000) } })).code, 'payload_too_large')
})

t.test('data nested 100,000 levels deep is an invalid request', async (t) => {
  const deep = parseJson(Buffer.from(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`))
  t.same(refusal(withNotification({ data: deep })), { code: 'invalid_request', field: 'notification.data' })
})

t.test('an invalid field is refused as invalid_request, with the name of the field', async (t) => {
  const cases: [string, unknown, string][] = [
    ['no object', null, ''],
    ['a list', [], ''],
    ['text', 'x', ''],
    ['a number', 7, ''],
    ['no target', { type: 'device', ttl: '1s' }, 'target'],
    ['target null', { ...good, target: null }, 'target'],
    ['target a number', { ...good, target: 5 }, 'target'],
    ['target empty', { ...good, target: '' }, 'target'],
    ['target a list for device', { ...good, target: ['a'] }, 'target'],
    ['target too long', { ...good, target: 'x'.repeat(513) }, 'target'],
    ['target ill-formed', { ...good, target: '\ud800' }, 'target'],
    ['a topic with a wildcard', { ...good, type: 'topic', target: 'news.>' }, 'target'],
    ['a user too long', { ...good, type: 'user', target: 'u'.repeat(129) }, 'target'],
    ['target text for devices', { ...good, type: 'devices' }, 'target'],
    ['no devices', { ...good, type: 'devices', target: [] }, 'target'],
    ['too many devices', { ...good, type: 'devices', target: new Array(1_001).fill('a') }, 'target'],
    ['a device that is none', { ...good, type: 'devices', target: ['a', 7] }, 'target[1]'],
    ['no type', { target: 'a', ttl: '1s' }, 'type'],
    ['unknown type', { ...good, type: 'everyone' }, 'type'],
    ['type of Object', { ...good, type: 'constructor' }, 'type'],
    ['no ttl', { target: 'a', type: 'device' }, 'ttl'],
    ['ttl a number', { ...good, ttl: 60 }, 'ttl'],
    ['ttl too long', { ...good, ttl: '672h1s' }, 'ttl'],
    ['ttl too long, in days', { ...good, ttl: '28d1s' }, 'ttl'],
    ['ttl endless', { ...good, ttl: '999999999h' }, 'ttl'],
    ['unknown priority', { ...good, priority: 'urgent' }, 'priority'],
    ['priority null', { ...good, priority: null }, 'priority'],
    ['collapse key too long', { ...good, collapseKey: 'k'.repeat(65) }, 'collapseKey'],
    ['collapse key a number', { ...good, collapseKey: 1 }, 'collapseKey'],
    ['notification text', withNotification('hello'), 'notification'],
    ['notification null', withNotification(null), 'notification'],
    ['title a number', withNotification({ title: 1 }), 'notification.title'],
    ['title null', withNotification({ title: null }), 'notification.title'],
    ['title ill-formed', withNotification({ title: 'a\udc00b' }), 'notification.title'],
    ['message a list', withNotification({ message: [] }), 'notification.message'],
    ['data a list', withNotification({ data: [1] }), 'notification.data'],
    ['data text', withNotification({ data: '{}' }), 'notification.data'],
    ['data ill-formed', withNotification({ data: { a: '\ud800' } }), 'notification.data'],
    ['data ill-formed key', withNotification({ data: { '\ud800': 1 } }), 'notification.data'],
  ]
  for (const [name, body, field] of cases) t.same(refusal(body), { code: 'invalid_request', field }, name)
})

t.test('unknown fields are accepted with a short warning for each, sixteen at most', async (t) => {
  const body = { ...good, urgency: 1, notification: { title: 'T', icon: 'x', ['y'.repeat(99)]: 1 } }
  const { warnings } = read(body, 0)
  t.same(warnings.slice(0, 2), ['unknown field urgency', 'unknown field notification.icon'])
  t.ok(warnings.every((warning) => warning.length < 100))
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`f${i}`, i]))
  t.equal(read({ ...good, ...many, notification: { title: 'T' } }, 0).warnings.length, 16)
})

t.test('only a push without title, message and data is warned of as empty', async (t) => {
  const warnings = (notification: object) => read({ ...good, notification }, 0).warnings
  t.same(warnings({}), ['the push is empty: it has no title, no message and no data'])
  t.same(warnings({ title: '', message: '', data: {} }).length, 0, 'attributes, even none of them, are data')
  for (const notification of [{ title: 'T' }, { message: 'M' }, { data: { a: 1 } }]) t.same(warnings(notification), [])
})

t.test('an integer beyond 2^53-1 is refused in the attributes, and not rounded', async (t) => {
  const withNumber = (json: string) => parseJson(Buffer.from(`{"a": [0, ${json}], "b": "12345678901234567890"}`))
  for (const json of ['9007199254740992', '-9007199254740993', '18446744073709551616', '1'.repeat(400)]) {
    const data = withNumber(json) as { a: unknown[] }
    t.equal(data.a[1], BigInt(json), json)
    t.same(refusal(withNotification({ data })), { code: 'invalid_request', field: 'notification.data' }, json)
  }
  for (const json of ['9007199254740991', '-9007199254740991', '1e30', '9007199254740993.0', '0.12345678901234567']) {
    const data = withNumber(json) as { a: unknown[] }
    t.equal(data.a[1], JSON.parse(json), json)
    t.equal(refusal(withNotification({ data })).code, 'none', json)
  }
  const text = '{"n": 12345678901234567890, "s": "a \\" 12345678901234567890 \\\\", "k": {"99999999999999999999": []}}'
  t.same(parseJson(Buffer.from(text)), { ...JSON.parse(text), n: 12345678901234567890n }, 'strings and keys stay')
  for (const bytes of [
    '{12345678901234567890:1}',
    '[12345678901234567890',
    '012345678901234567',
    '-',
    '1234567890123456x',
  ]) {
    t.throws(() => parseJson(Buffer.from(bytes)), { code: 'malformed_json' }, bytes)
  }
})

t.test('a body that is no JSON in UTF-8 is refused as malformed_json', async (t) => {
  for (const bytes of ['', '{', '{"a":1}x', "{'a':1}", 'NaN', '\ufeff{', '{"a":\u0000}']) {
    t.throws(() => parseJson(Buffer.from(bytes)), { code: 'malformed_json' }, JSON.stringify(bytes))
  }
  t.throws(() => parseJson(Buffer.from([0x22, 0xff, 0x22])), { code: 'malformed_json' }, 'not UTF-8')
  t.throws(() => parseJson(Buffer.from('{"a":1}', 'utf16le')), { code: 'malformed_json' }, 'UTF-16')
})

const at = (notBefore: unknown) => read({ ...good, notBefore }, Date.UTC(2026, 0, 1)).notBeforeMs

t.test('notBefore is read as RFC 3339 time with any offset, from the past to thirty days ahead', async (t) => {
  t.equal(at(undefined), null)
  t.equal(at('2026-01-02T03:04:05Z'), Date.UTC(2026, 0, 2, 3, 4, 5))
  t.equal(at('2026-01-02t03:04:05.250+02:00'), Date.UTC(2026, 0, 2, 1, 4, 5, 250))
  t.equal(at('2020-01-01T00:00:00Z'), Date.UTC(2020, 0, 1), 'a past time is accepted: the accept step sends at once')
  t.equal(at('2026-01-31T00:00:00Z'), Date.UTC(2026, 0, 31), 'thirty days ahead')
})

t.test('notBefore that is too far ahead or no time is refused', async (t) => {
  for (const bad of [
    '2026-01-31T00:00:01Z',
    '2026-01-02',
    '2026-02-31T00:00:00',
    '2026-13-01T00:00:00Z',
    'x',
    '',
    7,
    null,
  ]) {
    t.throws(() => at(bad), { code: 'invalid_request', details: { field: 'notBefore' } }, String(bad))
  }
})

t.test('the message of a refusal states the rule of the field', async (t) => {
  const cases: [unknown, string][] = [
    [null, 'the body must be an object'],
    [{}, 'type is required'],
    [{ ...good, type: 'x' }, 'type must be one of device, devices, topic, application, user'],
    [{ type: 'device', ttl: '1s' }, 'target is required'],
    [{ ...good, target: '' }, 'target must be text of 1 to 512 characters'],
    [{ ...good, target: 5 }, 'target must be text of 1 to 512 characters'],
    [{ ...good, type: 'topic', target: 'a b' }, 'target must be the name of a topic: 1 to 64 of A-Z a-z 0-9 _ . -'],
    [{ ...good, type: 'devices', target: ['a', 7] }, 'target[1] must be text of 1 to 512 characters'],
    [
      { ...good, type: 'devices', target: [] },
      'target must be a list of 1 to 1000 entries, each text of 1 to 512 characters',
    ],
    [{ ...good, ttl: 'soon' }, 'ttl must be a time such as 2d, 5h30m, 90s or 0s'],
    [{ ...good, ttl: 60 }, 'ttl must be a time such as 2d, 5h30m, 90s or 0s'],
    [{ ...good, ttl: '29d' }, 'ttl must be at most 28d'],
    [{ ...good, notBefore: 'tomorrow' }, 'notBefore must be a time such as 2026-01-31T12:00:00Z'],
    [{ ...good, notBefore: '1970-02-01T00:00:00Z' }, 'notBefore must be at most 1970-01-31T00:00:00.000Z'],
    [{ ...good, priority: 'urgent' }, 'priority must be one of normal, high, low'],
    [{ ...good, validateOnly: 1 }, 'validateOnly must be true or false'],
    [withNotification([]), 'notification must be an object'],
    [withNotification({ title: 'x'.repeat(513) }), 'notification.title must be text of at most 512 characters'],
    [withNotification({ title: '\ud800' }), 'notification.title must be well-formed Unicode'],
    [withNotification({ data: { k: 'x'.repeat(5_000) } }), 'notification.data must encode to at most 4096 bytes'],
  ]
  for (const [body, message] of cases) t.throws(() => read(body, 0), { message }, message)
})

t.test('limits of the settings apply to the check and stand in the schema', async (t) => {
  const small = messageFormat({ ...limits, titleCharactersMax: 3, devicesMax: 2, ttlMaxMs: 90_000 })
  t.throws(() => small.read(withNotification({ title: 'four' }), 0), { message: /at most 3 characters/ })
  t.throws(() => small.read({ ...good, type: 'devices', target: ['a', 'b', 'c'] }, 0), { message: /1 to 2 entries/ })
  t.throws(() => small.read({ ...good, ttl: '2m' }, 0), { message: 'ttl must be at most 90s' })
  t.match(JSON.stringify(small.schema), /"maxLength":3/)
  t.match(JSON.stringify(small.schema), /"maxItems":2/)
})
