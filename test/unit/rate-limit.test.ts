import Fastify from 'fastify'
import t from 'tap'
import { limitAddresses, networkOf, RateLimits } from '../../src/core/api/rate-limits.js'

t.test('the network of IPv4 is the address, of IPv6 the first 64 bits, and of a closed socket empty', async (t) => {
  t.equal(networkOf('192.0.2.7'), '192.0.2.7')
  t.equal(networkOf('::ffff:192.0.2.7'), '::ffff:192.0.2.7')
  t.equal(networkOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2')
  t.equal(networkOf('2001:db8::6'), '2001:db8:0:0')
  t.equal(networkOf(undefined), '')
})

t.test('requests whose socket is already closed cause no error and count against the rate limit', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const none = { messagesPerSecond: 0, enrolmentsPerSecond: 0, enrolmentsPerKeyPerSecond: 0 }
  const settings = { ...none, requestsPerSecond: 2, burstSeconds: 1 }
  const clock = { now: () => 0, steadyMs: () => 0, after: () => () => undefined }
  app.addHook('onRequest', (request, _, done) => {
    // A socket that was reset has no remoteAddress (see net.Socket.remoteAddress in Node's documentation).
    Object.defineProperty(request.raw.socket, 'remoteAddress', { value: undefined })
    done()
  })
  limitAddresses(app, new RateLimits(settings, clock, () => 1))
  app.get('/', () => 'here')
  const statuses: number[] = []
  for (let n = 0; n < 3; n++) statuses.push((await app.inject('/')).statusCode)
  t.same(statuses.slice(0, 2), [200, 200])
  t.not(statuses[2], 200)
})
