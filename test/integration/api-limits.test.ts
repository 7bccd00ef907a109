import { METHODS } from 'node:http'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { ErrorCode } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import { createLogger } from '../../src/observe/log.js'
import { startTestApi, until } from '../support/api.js'
import {
  API,
  type Ask,
  ask,
  connected,
  everything,
  get,
  isError,
  messagesOf,
  overSocket,
  registrationIdOf,
} from '../support/http.js'

t.test('bodies that are not JSON, invalid or too large are refused with the code of the reason', async (t) => {
  const api = await startTestApi(t, { http: { bodyBytesMax: 16_384 } })
  const url = messagesOf(api)
  const good = { target: registrationIdOf(api), type: 'device', ttl: '1m' }
  const cases: [string, ErrorCode, Partial<Ask>][] = [
    ['no body', 'malformed_json', { method: 'POST' }],
    ['no JSON', 'malformed_json', { raw: '{"target":' }],
    ['not UTF-8', 'malformed_json', { raw: Buffer.from([0x7b, 0xff, 0x7d]) }],
    ['a list', 'invalid_request', { body: [] }],
    ['an unknown type', 'invalid_request', { body: { ...good, type: 'all' } }],
    ['a title too long', 'invalid_request', { body: { ...good, notification: { title: 'x'.repeat(513) } } }],
    ['data too large', 'payload_too_large', { body: { ...good, notification: { data: { a: 'x'.repeat(4_096) } } } }],
    ['a body too large', 'payload_too_large', { body: { ...good, padding: 'x'.repeat(16_384) } }],
    ['text', 'unsupported_media_type', { body: good, headers: { 'content-type': 'text/plain' } }],
    [
      'another charset',
      'unsupported_media_type',
      { body: good, headers: { 'content-type': 'application/json; charset=utf-16' } },
    ],
    ['compressed', 'unsupported_media_type', { body: good, headers: { 'content-encoding': 'gzip' } }],
  ]
  for (const [name, code, request] of cases) {
    const answer = await ask(api, { url, ...request })
    isError(t, answer, code, name)
  }
  t.same(api.core.accepted, [])
  const padded = await ask(api, { url, body: { ...good, notification: { title: '🦌'.repeat(512) } } })
  t.equal(padded.statusCode, 202, 'the limit counts characters, not bytes')
  const json = await ask(api, {
    url,
    body: good,
    headers: { 'content-type': 'application/vnd.x+json; charset="UTF-8"' },
  })
  t.equal(json.statusCode, 202, 'another JSON content type')
})

t.test('an unknown path is not_found, an unknown method is method_not_allowed with Allow', async (t) => {
  const api = await startTestApi(t)
  for (const url of [
    '/',
    '/push',
    `${API}`,
    `${messagesOf(api)}/1/2`,
    '/%ff',
    `${API}/${'p'.repeat(600)}`,
    '/device/v1',
  ]) {
    isError(t, await ask(api, { url }), 'not_found', url)
  }
  const wrong: [NonNullable<Ask['method']>, string, string][] = [
    ['PUT', messagesOf(api), 'POST, GET'],
    ['GET', `${messagesOf(api)}:batch`, 'POST'],
    ['POST', `${messagesOf(api)}/1`, 'GET, DELETE'],
    ['DELETE', `${API}/${api.project}`, 'GET'],
    ['GET', '/device/v1/enrol', 'POST'],
    ['POST', '/healthz', 'GET'],
  ]
  for (const [method, url, allow] of wrong) {
    const answer = await ask(api, { method, url })
    isError(t, answer, 'method_not_allowed', `${method} ${url}`)
    t.equal(answer.headers.allow, allow)
  }
})

t.test(
  'each method of HTTP that a path does not have is answered 405 with Allow, and on an unknown path 404',
  async (t) => {
    const api = await startTestApi(t)
    const { url } = await api.gateway.listen()
    const authorization = `authorization: Bearer ${api.token}`
    for (const method of METHODS.filter((method) => method !== 'CONNECT' && method !== 'HEAD')) {
      const known = await overSocket(url, method, `${messagesOf(api)}/1`, [authorization])
      if (method === 'GET' || method === 'DELETE')
        t.match(known, /^HTTP\/1.1 404 .*"unknown_message"/s, `${method} exists`)
      else {
        t.match(known, /^HTTP\/1.1 405 .*"method_not_allowed"/s, method)
        t.match(known, /\r\nallow: GET, DELETE\r\n/, `${method}: Allow`)
      }
      t.match(
        await overSocket(url, method, '/nothing', [authorization]),
        /^HTTP\/1.1 404 .*"not_found"/s,
        `${method} /nothing`,
      )
    }
    t.match(await overSocket(url, 'HEAD', '/healthz', []), /^HTTP\/1.1 405 .*\r\nallow: GET\r\n/s)
  },
)

t.test('a request that arrives while the process stops is answered 503 with Retry-After', async (t) => {
  const api = await startTestApi(t)
  const { port } = await api.gateway.listen()
  const late = await connected(port)
  const socket = await connected(port)
  // With half of a request the connection is not idle, so it stays open while the process stops.
  late.write(`GET ${API}/${api.project} HTTP/1.1\r\nhost: x\r\n`)
  socket.write(`GET ${API}/${api.project} HTTP/1.1\r\nhost: x\r\n`)
  socket.write('connection: close\r\n\r\n')
  t.match(
    await everything(socket),
    /^HTTP\/1.1 401 /,
    'the process still serves, and has read the first half of the other request',
  )
  const stopped = api.gateway.stop()
  late.write(`authorization: Bearer ${api.token}\r\n\r\n`)
  const answer = await everything(late)
  t.match(answer, /^HTTP\/1.1 503 /)
  t.match(answer, /\r\nretry-after: 1\r\n/)
  t.match(answer, /\r\nconnection: close\r\n/)
  t.match(answer, /"code":"shutting_down"/)
  await stopped
})

t.test('an unknown fault of the service is answered as internal, and its cause is logged once', async (t) => {
  const lines: string[] = []
  const log = createLogger(
    'test',
    { level: 'debug', format: 'json' },
    { write: (line: string) => void lines.push(line) },
  )
  const api = await startTestApi(t, { log })
  const send = () => ask(api, { url: messagesOf(api), body: { type: 'topic', target: 'news', ttl: '1m' } })
  api.core.accept = async () => {
    throw new Error('the hidden cause')
  }
  const answer = await send()
  isError(t, answer, 'internal')
  t.notMatch(JSON.stringify(answer.body), /hidden cause/)
  t.equal(lines.filter((line) => line.includes('the hidden cause')).length, 1)
})

t.test('a fault of the store is answered with its code and Retry-After', async (t) => {
  const api = await startTestApi(t)
  const send = () => ask(api, { url: messagesOf(api), body: { type: 'topic', target: 'news', ttl: '1m' } })
  for (const [brokerCode, code] of [
    ['full', 'storage_full'],
    ['timeout', 'unavailable'],
    ['disconnected', 'unavailable'],
    ['unavailable', 'unavailable'],
    ['no_responders', 'unavailable'],
    ['wrong_last_sequence', 'overloaded'],
  ] as const) {
    api.core.accept = async () => {
      throw new BrokerError(brokerCode, 'no')
    }
    const refused = await send()
    isError(t, refused, code, brokerCode)
    t.equal(refused.headers['retry-after'], '1', `${brokerCode}: with Retry-After`)
  }
})

t.test('a core whose nats-server is killed', async (t) => {
  const api = await startTestApi(t)
  const store = api.broker.log('BROADCAST')
  api.core.accept = async () => {
    await store.append('broadcast.acme.topic.x', Buffer.from('x'))
    return { id: 1n, acceptedAtMs: 0, expiresAtMs: 0, notBeforeMs: null }
  }
  const send = () => ask(api, { url: messagesOf(api), body: { type: 'topic', target: 'news', ttl: '1m' } })
  const readiness = () => ask(api, { url: '/readyz', token: null })

  await t.test('accepts messages and is ready before', async (t) => {
    t.equal((await send()).statusCode, 202)
    t.same((await readiness()).body, { status: 'ready' })
  })

  await api.nats.kill9()
  await until('the core has noticed the lost connection', () => !api.broker.connected())

  await t.test('answers messages, enrolments and /readyz as unavailable, and /healthz as alive', async (t) => {
    isError(t, await send(), 'unavailable')
    isError(t, await readiness(), 'unavailable')
    isError(
      t,
      await ask(api, {
        url: `${messagesOf(api)}`,
        body: { type: 'application', target: `app_${'z'.repeat(20)}`, ttl: '1m' },
      }),
      'unavailable',
      'a target that cannot be looked up',
    )
    isError(
      t,
      await ask(api, {
        url: '/device/v1/enrol',
        body: { enrolmentKey: `bek_aaaaaaaaaaaa_${'A'.repeat(43)}` },
        token: null,
      }),
      'unavailable',
    )
    t.equal((await ask(api, { url: '/healthz', token: null })).statusCode, 200)
  })

  await t.test('accepts messages and is ready again after the restart of nats-server', async (t) => {
    await api.nats.start()
    await until('the core is connected again', () => api.broker.connected())
    t.equal((await readiness()).statusCode, 200)
    t.equal((await send()).statusCode, 202)
  })
})

t.test('requests on real sockets', async (t) => {
  const api = await startTestApi(t, { http: { bodyBytesMax: 65_536, connectionsMax: 20 } })
  const { url, port } = await api.gateway.listen()
  // A second gateway for slow requests. On a busy machine valid requests may exceed its short time limits.
  const impatient = await startTestApi(t, { http: { requestTimeoutMs: 400, headersTimeoutMs: 300 } })
  const { port: impatientPort } = await impatient.gateway.listen()
  const headOf = (to: typeof api) =>
    `POST ${messagesOf(to)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${to.token}\r\ncontent-type: application/json\r\n`

  await t.test('a body of 10 MB is refused with 413', async (t) => {
    const answer = await overSocket(
      url,
      'POST',
      messagesOf(api),
      [`authorization: Bearer ${api.token}`],
      'x'.repeat(10_000_000),
    )
    t.match(answer, /^HTTP\/1.1 413 /)
    t.match(answer, /"payload_too_large"/)
  })
  await t.test('a chunked body of 10 MB is refused with 413', async (t) => {
    const stream = connect(port, '127.0.0.1')
    const size = 10_000_000
    stream.write(`${headOf(api)}connection: close\r\ntransfer-encoding: chunked\r\n\r\n${size.toString(16)}\r\n`)
    stream.write(`${'x'.repeat(size)}\r\n0\r\n\r\n`)
    t.match(await everything(stream), /^HTTP\/1.1 413 /)
  })
  await t.test('a body that never ends is answered 408', async (t) => {
    const slow = connect(impatientPort, '127.0.0.1')
    slow.write(`${headOf(impatient)}content-length: 100\r\n\r\n{`)
    const answer = await everything(slow)
    t.match(answer, /^HTTP\/1.1 408 /)
    t.match(answer, /"request_timeout"/)
  })
  await t.test('headers that never end are answered 408', async (t) => {
    const slow = connect(impatientPort, '127.0.0.1')
    slow.write('GET /healthz HTTP/1.1\r\nhost: x\r\n')
    t.match(await everything(slow), /^HTTP\/1.1 408 /)
  })
  await t.test('bytes that are not HTTP are answered 400', async (t) => {
    const stranger = connect(port, '127.0.0.1')
    stranger.write('\x16\x03\x01 hello\r\n\r\n')
    const answer = await everything(stranger)
    t.match(answer, /^HTTP\/1.1 400 /)
    t.match(answer, /"invalid_request"/)
  })
  await t.test('headers of 32 KB are answered 413', async (t) => {
    const answer = await overSocket(url, 'GET', '/healthz', [`x: ${'y'.repeat(32_000)}`])
    t.match(answer, /^HTTP\/1.1 413 /)
  })
  await t.test('a method that Node knows and the API does not is answered 404 or 405', async (t) => {
    t.match(await overSocket(url, 'TRACE', '/healthz', []), /^HTTP\/1.1 40[45] /)
  })
  await t.test('a connection beyond connectionsMax is closed without an answer, and the others work', async (t) => {
    const sockets = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => connected(port, `127.0.0.${2 + (n % 4)}`)),
    )
    const extra = connect(port, '127.0.0.1')
    t.equal(await everything(extra), '')
    for (const socket of sockets) socket.destroy()
    await until('a connection is served again', async () => (await get(url)).statusCode === 200)
  })
})

t.test(
  'an address with half of connectionsMax idle gets no further connection, and another address does',
  async (t) => {
    const api = await startTestApi(t, { http: { connectionsMax: 20 } })
    const { port } = await api.gateway.listen()
    const sockets = await Promise.all(Array.from({ length: 10 }, async () => connected(port, '127.0.0.7')))
    t.equal(await everything(connect({ port, host: '127.0.0.1', localAddress: '127.0.0.7' })), '')
    const other = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.8' })
    other.write('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    t.match(await everything(other), /^HTTP\/1.1 200 /)
    for (const socket of sockets) socket.destroy()
    await until('the address connects again', async () => {
      const again = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.7' })
      again.write('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
      return (await everything(again)).startsWith('HTTP/1.1 200 ')
    })
  },
)

t.test(
  'an address with half of inFlightMax in slow bodies is overloaded, except for probes, and another is served',
  async (t) => {
    const api = await startTestApi(t, { http: { inFlightMax: 4 } })
    const { port } = await api.gateway.listen()
    const from = (localAddress: string, ...lines: string[]) => {
      const socket = connect({ port, host: '127.0.0.1', localAddress })
      socket.write(`${[...lines, 'host: x', 'connection: close'].join('\r\n')}\r\n\r\n`)
      return socket
    }
    const enrol = ['POST /device/v1/enrol HTTP/1.1', 'content-type: application/json', 'content-length: 100']
    const slow = [from('127.0.0.7', ...enrol), from('127.0.0.7', ...enrol)]
    await until('the address has its share', async () => {
      return (await everything(from('127.0.0.7', 'GET /nothing HTTP/1.1'))).startsWith('HTTP/1.1 503 ')
    })
    t.match(await everything(from('127.0.0.7', 'GET /nothing HTTP/1.1')), /"overloaded"/)
    t.match(await everything(from('127.0.0.8', 'GET /nothing HTTP/1.1')), /^HTTP\/1.1 404 /)
    t.match(await everything(from('127.0.0.7', 'GET /healthz HTTP/1.1')), /^HTTP\/1.1 200 /)
    t.match(await everything(from('127.0.0.7', 'GET /readyz HTTP/1.1')), /^HTTP\/1.1 200 /)
    for (const socket of slow) socket.destroy()
  },
)

t.test('a request beyond inFlightMax is overloaded, until the others have ended', async (t) => {
  const api = await startTestApi(t, { http: { inFlightMax: 2, addressSharePercent: 100 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let waiting = 0
  api.core.accept = async () => {
    waiting++
    await held
    return { id: 1n, acceptedAtMs: 0, expiresAtMs: 0, notBeforeMs: null }
  }
  const send = () => ask(api, { url: messagesOf(api), body: { type: 'topic', target: 'news', ttl: '1m' } })
  const first = [send(), send()]
  await until('two requests are in flight', () => waiting === 2)
  isError(t, await send(), 'overloaded')
  release()
  t.same(
    (await Promise.all(first)).map((answer) => answer.statusCode),
    [202, 202],
  )
  t.equal((await send()).statusCode, 202, 'after the others have ended')
})

t.test(
  'a query beyond the query budget is overloaded with Retry-After, and messages are accepted meanwhile',
  async (t) => {
    const api = await startTestApi(t, { http: { queriesAtOnceMax: 1, queriesWaitingMax: 1 } })
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let running = 0
    api.core.cancel = async () => {
      running++
      await held
      return 'cancelled'
    }
    const cancel = () => ask(api, { method: 'DELETE', url: `${messagesOf(api)}/1` })
    const first = cancel()
    await until('one query runs', () => running === 1)
    const second = cancel()
    const answers: Awaited<typeof first>[] = []
    await until('the queue is full', async () => {
      const answer = await Promise.race([ask(api, { method: 'GET', url: messagesOf(api) }), second])
      answers.push(answer)
      return answer.statusCode === 503
    })
    const refused = answers.at(-1)
    if (!refused) return t.fail('no answer')
    isError(t, refused, 'overloaded')
    t.match(refused.headers['retry-after'], /^[1-9][0-9]*$/)
    const sent = await ask(api, { url: messagesOf(api), body: { type: 'topic', target: 'news', ttl: '1m' } })
    t.equal(sent.statusCode, 202)
    release()
    t.same([(await first).statusCode, (await second).statusCode], [200, 200])
    t.equal(running, 2)
  },
)

/** An API with one query under way and one place for queries, and a connection for further requests. */
async function stoppingApi(t: Test) {
  const api = await startTestApi(t, { http: { queriesAtOnceMax: 1 } })
  const { port } = await api.gateway.listen()
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let running = 0
  api.core.cancel = async () => {
    running++
    await held
    return 'cancelled'
  }
  const write = (socket: Socket, method: string, path: string) =>
    socket.write(`${method} ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${api.token}\r\n\r\n`)
  const first = await connected(port)
  const answers = everything(first)
  write(first, 'DELETE', `${messagesOf(api)}/1`)
  await until('the cancel runs', () => running === 1)
  return { api, port, first, answers, write, release }
}

const SHUTTING_DOWN = /^HTTP\/1.1 503 .*retry-after: 1.*"shutting_down"/is

t.test('a query that waits when the process stops is shutting_down, and one that runs is answered', async (t) => {
  const { api, port, first, answers, write, release } = await stoppingApi(t)
  const second = await connected(port)
  const refused = everything(second)
  write(second, 'GET', messagesOf(api))
  await until('the list waits', () => api.queries.waiting === 1)
  const stopped = api.gateway.stop()
  api.queries.close()
  second.end()
  t.match(await refused, SHUTTING_DOWN)
  release()
  first.end()
  t.match(await answers, /^HTTP\/1.1 200 .*"cancelled"/s)
  await stopped
})
