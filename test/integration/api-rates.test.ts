import t from 'tap'
import { TokenBuckets } from '../../src/core/api/token-buckets.js'
import { Gateways } from '../../src/core/cluster/gateways.js'
import { silentLogger } from '../../src/observe/log.js'
import { startTestApi, until } from '../support/api.js'
import { ask, isError, messagesOf, registrationIdOf } from '../support/http.js'
import { SimInstallation } from '../support/sim-core.js'

const rate = { perSecond: 10, burst: 20 }

t.test(
  'a take larger than the rest of a token bucket passes as a debt, which later takes have to wait for',
  async (t) => {
    const buckets = new TokenBuckets(2)
    t.same(buckets.take('a', 15, rate, 0), { left: 5, waitMs: 0 })
    t.same(buckets.take('a', 100, rate, 0), { left: -95, waitMs: 0 }, 'the debt')
    t.same(buckets.take('a', 1, rate, 0), { left: -95, waitMs: 9_600 }, 'a refused take costs nothing')
    t.equal(buckets.take('a', 1, rate, 9_599).waitMs, 1)
    t.same(buckets.take('a', 1, rate, 9_600), { left: 0, waitMs: 0 })
  },
)

t.test('a token bucket fills up to its burst, and a clock that steps back adds nothing', async (t) => {
  const buckets = new TokenBuckets(2)
  t.same(buckets.take('a', 20, rate, 0), { left: 0, waitMs: 0 })
  t.same(buckets.take('a', 1, rate, 1_000_000), { left: 19, waitMs: 0 })
  t.same(buckets.take('a', 1, rate, 0), { left: 18, waitMs: 0 }, 'the clock stepped back')
})

t.test('beyond their number the least recently used token bucket is forgotten', async (t) => {
  const buckets = new TokenBuckets(2)
  for (const key of ['a', 'b', 'c']) buckets.take(key, 20, rate, 0)
  t.equal(buckets.take('b', 1, rate, 0).waitMs, 100, 'b is kept')
  t.equal(buckets.take('a', 20, rate, 0).left, 0, 'a is full again')
})

t.test('a full token bucket with a burst below 1 lets one request pass', async (t) => {
  const buckets = new TokenBuckets(2)
  const small = { perSecond: 0.5, burst: 0.5 }
  t.equal(buckets.take('small', 1, small, 0).waitMs, 0)
  t.equal(buckets.take('small', 1, small, 0).waitMs, 2_000)
})

t.test(
  'messages of a project beyond its rate are rate_limited until Retry-After, and reads are answered',
  async (t) => {
    const api = await startTestApi(t, {
      limits: { messagesPerSecond: 10, burstSeconds: 2 },
    })
    const startMs = api.clock.now()
    api.clock.now = () => startMs + api.clock.skewMs
    const url = messagesOf(api)
    const target = registrationIdOf(api)
    const message = { target, type: 'device', ttl: '1m' }
    const first = await ask(api, { url, body: message })
    t.equal(first.statusCode, 202)
    t.equal(first.headers['ratelimit-policy'], '"messages";q=20;w=2')
    t.equal(first.headers.ratelimit, '"messages";r=19;t=1')
    const many = { target: Array(30).fill(target), type: 'devices', ttl: '1m' }
    t.equal((await ask(api, { url, body: many })).statusCode, 202, 'each target counts, and the excess is a debt')
    const refused = await ask(api, { url, body: message })
    isError(t, refused, 'rate_limited')
    t.equal(refused.headers['retry-after'], '2')
    t.equal(refused.body.error.details.retryAfterMs, 1_200)
    t.equal(refused.headers.ratelimit, '"messages";r=0;t=4')
    isError(t, await ask(api, { url: `${url}:batch`, body: { messages: [message] } }), 'rate_limited', 'a batch')
    t.equal((await ask(api, { url })).statusCode, 200, 'a read')
    api.clock.skewMs = 1_200
    t.equal((await ask(api, { url, body: message })).statusCode, 202, 'after retryAfterMs')
  },
)

t.test('a core enforces its share of the default rate, or else of the rate of the project', async (t) => {
  let gateways = 1
  const api = await startTestApi(t, {
    limits: { messagesPerSecond: 10, burstSeconds: 2 },
    gateways: () => gateways,
  })
  const policy = async () => {
    const body = { target: registrationIdOf(api), type: 'device', ttl: '1m' }
    return (await ask(api, { url: messagesOf(api), body })).headers['ratelimit-policy']
  }
  t.equal(await policy(), '"messages";q=20;w=2', 'one core')
  gateways = 2
  t.equal(await policy(), '"messages";q=10;w=2', 'one of two cores')
  await api.tenants.projects.update(api.project, (project) => ({
    ...project,
    limits: { messagesPerSecond: 100 },
  }))
  await until('the limit is known', async () => (await api.directory.project(api.project))?.limits !== undefined)
  t.equal(await policy(), '"messages";q=100;w=2', 'half of the 200 that the project may send in 2 s')
})

t.test('an address or IPv6 network beyond requestsPerSecond is rate_limited, except for /healthz', async (t) => {
  const api = await startTestApi(t, {
    limits: { requestsPerSecond: 3, burstSeconds: 1 },
    http: { trustedProxies: '127.0.0.1' },
  })
  const startMs = api.clock.now()
  api.clock.now = () => startMs
  const from = (address: string, url = messagesOf(api)) =>
    ask(api, { url, token: 'x', headers: { 'x-forwarded-for': address } })
  for (let n = 0; n < 3; n++) isError(t, await from('192.0.2.1'), 'bad_token')
  const refused = await from('192.0.2.1')
  isError(t, refused, 'rate_limited')
  t.equal(refused.headers['retry-after'], '1')
  t.equal((await from('192.0.2.1', '/healthz')).statusCode, 200, '/healthz')
  isError(t, await from('192.0.2.2'), 'bad_token', 'another address')
  for (let n = 0; n < 3; n++) isError(t, await from(`2001:db8::${n}`), 'bad_token')
  isError(t, await from('2001:db8::ffff'), 'rate_limited', 'another address of the same IPv6 network')
  isError(t, await from('2001:db8:0:1::1'), 'bad_token', 'another network')
})

t.test('each core counts the running cores, also after one stops or crashes', async (t) => {
  const { sim } = new SimInstallation()
  const { clock } = sim
  const start = async (node: number) => {
    const broker = sim.brokerFor(`core-${node}`)
    const gateways = new Gateways({ broker, clock: broker.clock, node, leaseMs: 3_000, log: silentLogger })
    await clock.advanceUntil(gateways.start())
    await clock.advance(100)
    return { broker, gateways }
  }
  const first = await start(1)
  t.equal(first.gateways.count(), 1)
  const second = await start(2)
  const third = await start(3)
  t.same(
    [first, second, third].map(({ gateways }) => gateways.count()),
    [3, 3, 3],
  )
  await clock.advanceUntil(third.gateways.stop())
  await clock.advance(100)
  t.same([first.gateways.count(), second.gateways.count()], [2, 2], 'at once after one stops')
  second.broker.crash()
  await clock.advance(5_000)
  t.equal(first.gateways.count(), 1, 'after the lease of a crashed one')
})
