import Fastify from 'fastify'
import t from 'tap'
import { limitAddresses, networkOf, RateLimits } from '../../src/core/api/rate-limits.js'

t.test('the network of an address: of IPv6 the first half; nothing where the client is gone', async (t) => {
  t.equal(networkOf('192.0.2.7'), '192.0.2.7')
  t.equal(networkOf('::ffff:192.0.2.7'), '::ffff:192.0.2.7')
  t.equal(networkOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2')
  t.equal(networkOf('2001:db8::6'), '2001:db8:0:0')
  t.equal(networkOf(undefined), '')
})

t.test('who is gone before the request is looked at is no error, and is counted like everybody', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const none = { messagesPerSecond: 0, enrolmentsPerSecond: 0, enrolmentsPerKeyPerSecond: 0 }
  const settings = { ...none, requestsPerSecond: 2, burstSeconds: 1 }
  const clock = { now: () => 0, after: () => () => undefined }
  app.addHook('onRequest', (request, _, done) => {
    // As Node leaves it when the socket was reset: see net.Socket.remoteAddress.
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
