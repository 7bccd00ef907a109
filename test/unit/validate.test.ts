import { unpack } from 'msgpackr'
import t from 'tap'
import { Value } from 'typebox/value'
import { CodedError } from '../../protocol/errors.js'
import { parseJson } from '../../src/core/domain/json.js'
import { MessageLimits } from '../../src/core/domain/limits.js'
import { parseTtl } from '../../src/core/domain/ttl.js'
import { validateMessage } from '../../src/core/domain/validate-message.js'

const limits = Value.Create(MessageLimits)
const good = { target: 'some-registration-id', type: 'device', ttl: '5h30m' }

function refusal(body: unknown): { code: string; field: unknown } {
  try {
    validateMessage(body, limits, 0)
    return { code: 'none', field: undefined }
  } catch (error) {
    if (error instanceof CodedError) return { code: error.code, field: error.details.field }
    throw error
  }
}

const withNotification = (notification: unknown) => ({ ...good, notification })

t.test('times to live', async (t) => {
  const times: Record<string, number | null> = {
    '0s': 0,
    '0h0m0s': 0,
    '90s': 90_000,
    '5h30m': 19_800_000,
    '1h1s': 3_601_000,
    '672h': 28 * 86_400_000,
    '999999999h': 999_999_999 * 3_600_000,
    '': null,
    '5': null,
    '5d': null,
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
  for (const [text, ms] of Object.entries(times)) t.equal(parseTtl(text), ms, JSON.stringify(text))
})

t.test('what is left out has its default', async (t) => {
  const send = validateMessage(good, limits, 0)
  t.match(send, {
    type: 'device',
    targets: ['some-registration-id'],
    ttlMs: 19_800_000,
    priority: 'normal',
    collapseKey: '',
    title: '',
    message: '',
    warnings: [],
  })
  t.equal(send.data.length, 0, 'no data is no bytes')
})

t.test('everything there is', async (t) => {
  const data = { mtype: 'action', count: 3, nested: { list: [1, null, true, 'ü'] } }
  const send = validateMessage(
    {
      target: ['a', 'b'],
      type: 'devices',
      ttl: '0s',
      priority: 'high',
      collapseKey: 'k'.repeat(64),
      notification: { title: 'T', message: 'M', data },
    },
    limits,
    0,
  )
  t.same(send.targets, ['a', 'b'])
  t.equal(send.ttlMs, 0)
  t.equal(send.priority, 'high')
  t.same(unpack(send.data), data)
})

t.test('limits count characters, whatever their bytes', async (t) => {
  const emoji = '🦌'
  for (const [field, max] of [
    ['title', 512],
    ['message', 2_048],
  ] as const) {
    t.equal(refusal(withNotification({ [field]: emoji.repeat(max) })).code, 'none', `${max} of four bytes`)
    t.same(refusal(withNotification({ [field]: `${emoji.repeat(max)}.` })), {
      code: 'invalid_request',
      field: `notification.${field}`,
    })
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(max) })).code, 'none')
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(max + 1) })).code, 'invalid_request')
    t.equal(refusal(withNotification({ [field]: 'x'.repeat(400_000) })).code, 'invalid_request')
  }
})

t.test('data is measured as it is encoded', async (t) => {
  // A map of one entry with a one-letter key: 1 + 2 + 3 bytes of heads.
  t.equal(refusal(withNotification({ data: { k: 'x'.repeat(4_090) } })).code, 'none')
  t.same(refusal(withNotification({ data: { k: 'x'.repeat(4_091) } })), {
    code: 'payload_too_large',
    field: 'notification.data',
  })
  t.equal(refusal(withNotification({ data: { k: 'ü'.repeat(4_000) } })).code, 'payload_too_large')
  const deep = parseJson(Buffer.from(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`))
  t.same(refusal(withNotification({ data: deep })), { code: 'invalid_request', field: 'notification.data' })
})

t.test('bad input names its field', async (t) => {
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

t.test('unknown fields are told, not refused', async (t) => {
  const body = { ...good, urgency: 1, notification: { title: 'T', icon: 'x', ['y'.repeat(99)]: 1 } }
  const { warnings } = validateMessage(body, limits, 0)
  t.same(warnings.slice(0, 2), ['unknown field urgency', 'unknown field notification.icon'])
  t.ok(warnings.every((warning) => warning.length < 100))
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`f${i}`, i]))
  t.equal(validateMessage({ ...good, ...many }, limits, 0).warnings.length, 16)
})

t.test('bodies that are no JSON', async (t) => {
  for (const bytes of ['', '{', '{"a":1}x', "{'a':1}", 'NaN', '\ufeff{', '{"a":\u0000}']) {
    t.throws(() => parseJson(Buffer.from(bytes)), { code: 'malformed_json' }, JSON.stringify(bytes))
  }
  t.throws(() => parseJson(Buffer.from([0x22, 0xff, 0x22])), { code: 'malformed_json' }, 'not UTF-8')
  t.throws(() => parseJson(Buffer.from('{"a":1}', 'utf16le')), { code: 'malformed_json' }, 'UTF-16')
})

t.test('a time to go out', async (t) => {
  const at = (notBefore: unknown) => validateMessage({ ...good, notBefore }, limits, Date.UTC(2026, 0, 1)).notBeforeMs
  t.equal(at(undefined), null)
  t.equal(at('2026-01-02T03:04:05Z'), Date.UTC(2026, 0, 2, 3, 4, 5))
  t.equal(at('2026-01-02t03:04:05.250+02:00'), Date.UTC(2026, 0, 2, 1, 4, 5, 250))
  t.equal(at('2020-01-01T00:00:00Z'), Date.UTC(2020, 0, 1), 'one that is past is kept: accept knows when it is now')
  t.equal(at('2026-01-31T00:00:00Z'), Date.UTC(2026, 0, 31), 'thirty days')
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
