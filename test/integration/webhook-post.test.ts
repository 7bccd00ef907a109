/** The POST of a webhook to real receivers: its limits, and the addresses to which it does not connect. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.js'
import { AddressGuard, type LookupAll } from '../../src/core/outcomes/webhooks/addresses.js'
import { createPoster, type PosterOptions } from '../../src/core/outcomes/webhooks/post.js'
import { until } from '../support/api.js'

const never = new AbortController().signal
const settings = { timeoutMs: 10_000, responseBytesMax: 1_000 }

async function listening(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

function poster(t: Test, options: Partial<PosterOptions> = {}) {
  const poster = createPoster({ clock: systemClock, guard: new AddressGuard('127.0.0.0/8'), settings, ...options })
  t.teardown(() => poster.close())
  return (url: string, signal = never) => poster.post({ url, headers: { a: 'b' }, body: Buffer.from('{}'), signal })
}

const http = (t: Test, listener: RequestListener) => listening(t, createServer(listener))

t.test('a POST returns the status and Retry-After, whatever the status, and follows no redirect', async (t) => {
  const port = await http(t, (request, response) => {
    response.writeHead(Number(request.url?.slice(1)), { 'retry-after': '7', location: '/200' }).end('answer')
  })
  const post = poster(t)
  for (const status of [200, 204, 302, 410, 429, 500]) {
    t.same(await post(`http://127.0.0.1:${port}/${status}`), { answered: true, status, retryAfterMs: 7_000 })
  }
})

t.test('an answer that never ends is cut off by length or time, and its status counts', async (t) => {
  const cut = { long: false, slow: false }
  const port = await http(t, (request, response) => {
    const kind = request.url === '/long' ? 'long' : 'slow'
    response.on('close', () => {
      cut[kind] = true
    })
    response.writeHead(200)
    const more = () => {
      while (kind === 'long' && response.write('x'.repeat(1_000)));
    }
    if (kind === 'long') {
      response.on('drain', more)
      more()
    } else response.write('x')
  })
  const answered = { answered: true, status: 200, retryAfterMs: null }
  t.same(await poster(t, { settings: { ...settings, timeoutMs: 600_000 } })(`http://127.0.0.1:${port}/long`), answered)
  t.same(await poster(t, { settings: { ...settings, timeoutMs: 50 } })(`http://127.0.0.1:${port}/slow`), answered)
  await until('both answers are cut off', () => cut.long && cut.slow)
  t.same(cut, { long: true, slow: true })
})

t.test('a POST without an answer in time fails as timeout, and one that is aborted as ABORT_ERR', async (t) => {
  const silent = await http(t, () => {})
  const quick = poster(t, { settings: { ...settings, timeoutMs: 50 } })
  t.same(await quick(`http://127.0.0.1:${silent}/`), { answered: false, error: 'timeout' })
  const abort = new AbortController()
  const aborted = poster(t)(`http://127.0.0.1:${silent}/`, abort.signal)
  abort.abort()
  t.match(await aborted, { answered: false, error: 'ABORT_ERR' })
})

t.test('a POST to a receiver without HTTP or TLS fails with the code of the parser', async (t) => {
  const tcp = await listening(
    t,
    createTcp((socket) => socket.end('SSH-2.0-x\r\n')),
  )
  t.match(await poster(t)(`http://127.0.0.1:${tcp}/`), { answered: false, error: /^HPE_/ })
  t.match(await poster(t)(`https://127.0.0.1:${tcp}/`), { answered: false, error: String }, 'no TLS')
})

t.test('a POST to a port without a listener fails as ECONNREFUSED', async (t) => {
  const closed = createTcp()
  const port = await listening(t, closed)
  closed.close()
  t.same(await poster(t)(`http://127.0.0.1:${port}/`), { answered: false, error: 'ECONNREFUSED' })
})

t.test('a POST to a forbidden address is refused without a connection, in any notation and by any name', async (t) => {
  let connections = 0
  const port = await listening(
    t,
    createTcp((socket) => {
      connections++
      socket.destroy()
    }),
  )
  const resolve: LookupAll = (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }])
  const guard = new AddressGuard('')
  const refused = { answered: false, error: 'address_refused' }
  const post = poster(t, { guard, resolve })
  for (const host of ['127.0.0.1', '127.1', '2130706433', '[::ffff:127.0.0.1]', '[::1]', 'rebound.example.com']) {
    t.same(await post(`http://${host}:${port}/`), refused, host)
  }
  t.same(await post(`https://rebound.example.com:${port}/`), refused, 'https')
  t.same(await poster(t, { guard })(`http://localhost:${port}/`), refused, 'resolved by the system')
  t.equal(connections, 0)
})

t.test('a POST to a name whose address has become forbidden since the last POST is refused', async (t) => {
  let lookups = 0
  const port = await http(t, (_request, response) => response.setHeader('connection', 'close').end())
  const resolve: LookupAll = (_host, _options, callback) =>
    callback(null, [{ address: ++lookups === 1 ? '127.0.0.1' : '127.0.0.2', family: 4 }])
  const post = poster(t, { guard: new AddressGuard('127.0.0.1'), resolve })
  t.match(await post(`http://rebound.example.com:${port}/`), { status: 200 })
  t.same(await post(`http://rebound.example.com:${port}/`), { answered: false, error: 'address_refused' })
})

t.test('a connection is reused, and a POST on one that the receiver closed is sent again', async (t) => {
  const sockets = new Set<object>()
  let requests = 0
  const port = await http(t, (request, response) => {
    sockets.add(request.socket)
    // The third request uses the open connection. The receiver resets it, as if it were about to close it.
    if (++requests === 3) request.socket.resetAndDestroy()
    else response.end()
  })
  const post = poster(t)
  for (let n = 0; n < 3; n++) t.match(await post(`http://127.0.0.1:${port}/`), { answered: true, status: 200 })
  t.equal(requests, 4)
  t.equal(sockets.size, 2)
})
