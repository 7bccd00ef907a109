/** Webhooks without a network: signatures, waits between attempts, and the addresses that they may reach. */
import { createHmac } from 'node:crypto'
import t from 'tap'
import { ADDRESS_REFUSED, AddressGuard, type LookupAll } from '../../src/core/outcomes/webhooks/addresses.js'
import { backoffOf, retryAfterOf } from '../../src/core/outcomes/webhooks/backoff.js'
import { bodyOf } from '../../src/core/outcomes/webhooks/post.js'
import { batchIdOf, newWebhookSecret, signatureOf, signedHeaders } from '../../src/core/outcomes/webhooks/signature.js'
import { Slots } from '../../src/core/outcomes/webhooks/slots.js'
import { checkWebhookUrl } from '../../src/core/outcomes/webhooks/url.js'

const bytes = (text: string) => Buffer.from(text)

t.test('a signature equals the test vector of Standard Webhooks', async (t) => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  t.equal(
    signatureOf(secret, 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1_614_265_330, bytes('{"test": 2432232314}')),
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  )
})

t.test('each valid secret signs the POST, and a secret that ended does not', async (t) => {
  const [newer, older, oldest] = [newWebhookSecret(), newWebhookSecret(), newWebhookSecret()]
  t.match(newer, /^whsec_[A-Za-z0-9+/]{43}=$/)
  const secrets = [
    { secret: newer, createdAtMs: 5_000, endsAtMs: null },
    { secret: older, createdAtMs: 0, endsAtMs: 10_001 },
    { secret: oldest, createdAtMs: 0, endsAtMs: 10_000 },
  ]
  const headers = signedHeaders(secrets, 'batch_x', bytes('{}'), 10_000)
  const signatureWith = (secret: string) =>
    `v1,${createHmac('sha256', Buffer.from(secret.slice(6), 'base64'))
      .update('batch_x.10.{}')
      .digest('base64')}`
  t.same(headers, {
    'webhook-id': 'batch_x',
    'webhook-timestamp': '10',
    'webhook-signature': `${signatureWith(newer)} ${signatureWith(older)}`,
  })
})

t.test('the id of a batch depends on its events and their order alone', async (t) => {
  const [a, b] = [bytes('{"id":"1.delivered"}'), bytes('{"id":"2.expired"}')]
  t.match(batchIdOf([a, b]), /^batch_[A-Za-z0-9_-]{22}$/)
  t.equal(batchIdOf([a, b]), batchIdOf([Buffer.from(a), Buffer.from(b)]))
  t.equal(new Set([batchIdOf([a]), batchIdOf([b]), batchIdOf([a, b]), batchIdOf([b, a])]).size, 4)
})

t.test('the body of a batch is JSON with its events', async (t) => {
  const [a, b] = [bytes('{"id":"1.delivered"}'), bytes('{"id":"2.expired"}')]
  const parse = (bodies: Buffer[]) => JSON.parse(Buffer.from(bodyOf(bodies.map((body) => ({ body })))).toString())
  t.same(parse([a]), { v: 1, events: [{ id: '1.delivered' }] })
  t.same(parse([a, b]), { v: 1, events: [{ id: '1.delivered' }, { id: '2.expired' }] })
})

t.test('waits double up to their maximum, and half of each is random', async (t) => {
  const limits = { backoffMs: 1_000, backoffMaxMs: 60_000 }
  const longest = [1, 2, 3, 7, 40, 5_000].map((failures) => backoffOf(failures, limits, () => 1))
  t.same(longest, [1_000, 2_000, 4_000, 60_000, 60_000, 60_000])
  const shortest = [1, 2, 3, 7].map((failures) => backoffOf(failures, limits, () => 0))
  t.same(shortest, [500, 1_000, 2_000, 30_000])
})

t.test('Retry-After is read as seconds or as a date, and anything else is ignored', async (t) => {
  t.equal(retryAfterOf('120', 0), 120_000)
  t.equal(retryAfterOf('0', 0), 0)
  t.equal(retryAfterOf('Thu, 01 Jan 1970 00:01:00 GMT', 10_000), 50_000)
  t.equal(retryAfterOf('Thu, 01 Jan 1970 00:00:01 GMT', 10_000), 0, 'a past date means no wait')
  for (const neither of [undefined, '', 'soon']) t.equal(retryAfterOf(neither, 0), null, String(neither))
  t.equal(retryAfterOf('-5', 2e12) ?? 0, 0, 'a negative number means no wait')
})

const PRIVATE = [
  ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '127.0.0.1', '127.255.255.254', '169.254.169.254', '172.16.0.1'],
  ...['172.31.255.255', '192.0.0.1', '192.168.1.1', '198.18.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'],
  ...['::', '::1', 'fc00::1', 'fd12:3456::1', 'fe80::1', 'fec0::1', 'ff02::1', '2001:db8::1'],
  // Networks that nobody may announce, and such as are not given out.
  ...['::ffff:0:7f00:1', '3fff::1', '5f00::1', '4000::1', '100::1', 'fec0::1', '::', '64:ff9b:1::1'],
  // IPv4 addresses written as IPv6.
  ...['::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:a9fe:a9fe', '::127.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::1'],
]
const PUBLIC = ['1.1.1.1', '172.15.255.255', '172.32.0.1', '192.167.1.1', '2606:4700::1111', '::ffff:1.1.1.1']

t.test('private addresses are refused, and public ones are allowed', async (t) => {
  const guard = new AddressGuard('')
  t.same(
    PRIVATE.filter((address) => guard.mayReach(address)),
    [],
  )
  t.same(
    PUBLIC.filter((address) => !guard.mayReach(address)),
    [],
  )
})

t.test('the operator can allow private networks, and no other private address is reached', async (t) => {
  const open = new AddressGuard('10.1.0.0/16, 192.168.1.7,fd00::/8')
  const allowed = ['10.1.2.3', '192.168.1.7', 'fd12::1', '::ffff:10.1.2.3', '1.1.1.1']
  t.same(
    allowed.filter((address) => !open.mayReach(address)),
    [],
  )
  t.same(
    ['10.2.0.1', '192.168.1.8', '127.0.0.1', '::1', 'fc00::1'].filter((address) => open.mayReach(address)),
    [],
  )
})

t.test('a list of allowed networks with a wrong entry is refused', async (t) => {
  for (const wrong of ['x', '10.0.0.0/33', '10.0.0.0/', '10.0.0/8', '::1/129', '10.0.0.0/-1', 'example.com']) {
    t.throws(() => new AddressGuard(wrong), RangeError, wrong)
  }
})

t.test('a host name is connected only at the public addresses to which it resolves', async (t) => {
  const guard = new AddressGuard('')
  const resolvesTo = (...addresses: string[]): LookupAll => {
    return (_host, _options, callback) =>
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      )
  }
  const lookUp = (resolve: LookupAll, all: boolean) =>
    new Promise((done) =>
      guard.lookup(resolve)('h', { all }, (error, address, family) => done(error ? error.code : [address, family])),
    )
  t.equal(await lookUp(resolvesTo('127.0.0.1', '::1'), true), ADDRESS_REFUSED)
  t.equal(await lookUp(resolvesTo(), false), ADDRESS_REFUSED)
  t.same(await lookUp(resolvesTo('10.0.0.1', '1.1.1.1', '2606:4700::1'), true), [
    [
      { address: '1.1.1.1', family: 4 },
      { address: '2606:4700::1', family: 6 },
    ],
    undefined,
  ])
  t.same(await lookUp(resolvesTo('10.0.0.1', '1.1.1.1'), false), ['1.1.1.1', 4])
  const fails: LookupAll = (_host, _options, callback) =>
    callback(Object.assign(new Error('x'), { code: 'ENOTFOUND' }), [])
  t.equal(await lookUp(fails, true), 'ENOTFOUND')
})

const check = (url: string, allowHttp = false) => checkWebhookUrl(url, { allowHttp, guard: new AddressGuard('') })

t.test('a webhook url must be https without credentials and fragment; http needs a setting', async (t) => {
  t.equal(check('https://app.example.com/hook?x=1'), 'https://app.example.com/hook?x=1')
  t.equal(check('http://app.example.com/', true), 'http://app.example.com/')
  for (const url of [
    ...['', 'x', 'http://a.example.com/', 'ftp://a.example.com/', 'file:///etc/passwd', 'https://u:p@a.example.com/'],
    'https://a.example.com/#x',
  ]) {
    t.throws(() => check(url), { code: 'invalid_request', details: { field: 'url' } }, url)
  }
})

t.test('a webhook url with a private address is refused in every notation of the address', async (t) => {
  for (const host of [
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f.1',
    '0177.0.0.1',
    '[::1]',
    '[::ffff:10.0.0.1]',
    '10.0.0.1',
  ]) {
    t.throws(() => check(`https://${host}/`), { code: 'webhook_address_refused' }, host)
  }
})

t.test('a released slot goes to the caller that waits longest', async (t) => {
  const slots = new Slots(2)
  const order: number[] = []
  const [first, second] = [await slots.take(), await slots.take()]
  const waiting = [1, 2, 3].map(async (n) => {
    const release = await slots.take()
    order.push(n)
    return release
  })
  t.same([order, slots.inUse], [[], 2])
  first()
  ;(await waiting[0])?.()
  second()
  for (const release of waiting.slice(1)) (await release)()
  t.same([order, slots.inUse], [[1, 2, 3], 0])
})
