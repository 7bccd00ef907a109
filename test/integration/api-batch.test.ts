import { connect } from 'node:net'
import t from 'tap'
import { CodedError } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import { startTestApi, type TestApi, until } from '../support/api.js'
import { ask, everything, isError, messagesOf, registrationIdOf } from '../support/http.js'

/** A message that the API accepts. */
const goodFor = (api: TestApi) => ({ target: registrationIdOf(api), type: 'device', ttl: '1h' })

t.test('a batch of valid messages is accepted as a whole with 202', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = goodFor(api)
  const all = await ask(api, {
    url,
    body: { messages: [good, { type: 'topic', target: 'news', ttl: '1m', x: 1 }] },
  })
  t.equal(all.statusCode, 202)
  t.match(all.body, { accepted: 2, failed: 0 })
  t.match(all.body.results, [
    { id: '4611686018427387905', status: 'accepted', type: 'device', target: good.target },
    { status: 'accepted', type: 'topic', target: 'news', warnings: ['unknown field x'] },
  ])
  t.match(api.core.accepted[1], { type: 'topic', group: { kind: 'topic', name: 'news' } })
})

t.test('a batch with invalid messages is answered 207, with a result for each message', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = goodFor(api)
  const messages = [good, { ...good, target: 'forged' }, null, { ...good, validateOnly: true }, { ...good, ttl: '1w' }]
  const some = await ask(api, { url, body: { messages } })
  t.equal(some.statusCode, 207)
  t.match(some.body, { accepted: 1, failed: 3 })
  t.match(some.body.results, [
    { status: 'accepted' },
    { error: { code: 'unknown_registration', details: { field: 'target' } } },
    { error: { code: 'invalid_request' } },
    { status: 'valid' },
    { error: { code: 'invalid_request', details: { field: 'ttl' } } },
  ])
  t.equal(api.core.accepted.length, 1, 'a message with validateOnly is not accepted')
})

t.test('a batch of validateOnly messages is answered 200, and with one other message 202', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = goodFor(api)
  const check = { ...good, validateOnly: true }
  const checked = await ask(api, { url, body: { messages: [check, check] } })
  t.equal(checked.statusCode, 200)
  t.match(checked.body, { accepted: 0, failed: 0, results: [{ status: 'valid' }, { status: 'valid' }] })
  const mixed = await ask(api, { url, body: { messages: [check, good] } })
  t.equal(mixed.statusCode, 202)
  t.match(mixed.body, { accepted: 1, failed: 0 })
  t.equal(api.core.accepted.length, 1)
})

t.test('a batch that names more than 10,000 targets together is refused, and nothing of it is stored', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const wide = { type: 'devices', ttl: '1h', target: Array.from({ length: 1_000 }, (_, n) => `bad${n}`) }
  const messages = [...Array.from({ length: 10 }, () => wide), goodFor(api)]
  const answer = await ask(api, { url, body: { messages } })
  isError(t, answer, 'invalid_request')
  t.match(answer.body.error, { message: /at most 10000 targets.*10001/, details: { field: 'messages' } })
  t.equal(api.core.accepted.length, 0)
})

t.test('a batch of 1,000 messages is accepted; an empty one, one of 1,001 and other bodies are refused', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = goodFor(api)
  for (const body of [null, [], {}, { messages: [] }, { messages: 'x' }, { messages: Array(1_001).fill(good) }]) {
    isError(t, await ask(api, { url, body }), 'invalid_request', JSON.stringify(body).slice(0, 30))
  }
  t.equal(api.core.accepted.length, 0)
  const most = await ask(api, { url, body: { messages: Array(1_000).fill(good) } })
  t.equal(most.statusCode, 202)
  t.equal(most.body.results.length, 1_000)
})

t.test('a batch of which the store refuses some messages is answered 207, with Retry-After', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = { target: registrationIdOf(api), type: 'device', ttl: '1h' }
  const { accept } = api.core
  let calls = 0
  api.core.accept = async (command) => {
    if (++calls % 2 === 0) throw new CodedError('storage_full')
    return accept(command)
  }
  const half = await ask(api, { url, body: { messages: Array(4).fill(good) } })
  t.equal(half.statusCode, 207)
  t.match(half.body, { accepted: 2, failed: 2 })
  t.equal(half.headers['retry-after'], '1')
})

t.test('a batch of which the store accepts no message is answered 503, with Retry-After', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}:batch`
  const good = goodFor(api)
  api.core.accept = async () => {
    throw new BrokerError('timeout', 'away')
  }
  const none = await ask(api, { url, body: { messages: [good, good] } })
  isError(t, none, 'unavailable')
  t.equal(none.headers['retry-after'], '1')
})

t.test(
  'each message of a batch gets the idempotency key of the request and its index; invalid keys are refused',
  async (t) => {
    const api = await startTestApi(t)
    const url = `${messagesOf(api)}:batch`
    const good = { target: registrationIdOf(api), type: 'device', ttl: '1h' }
    await ask(api, { url, body: { messages: [good, good] }, headers: { 'idempotency-key': 'k1' } })
    t.same(
      api.core.accepted.map(({ idempotency }) => idempotency?.key),
      ['k1 0', 'k1 1'],
    )
    const bad = await ask(api, { url, body: { messages: [good] }, headers: { 'idempotency-key': 'a b' } })
    isError(t, bad, 'invalid_request', 'a key with a space')
    const long = { url: messagesOf(api), body: good, headers: { 'idempotency-key': 'x'.repeat(256) } }
    isError(t, await ask(api, long), 'invalid_request', 'a key too long')
  },
)

t.test('a large body is payload_too_large beyond the limit of its path', async (t) => {
  const api = await startTestApi(t, { http: { largeBodiesBytesMax: 1_000_000, requestTimeoutMs: 30_000 } })
  const url = `${messagesOf(api)}:batch`
  const padding = (bytes: number) => ({ messages: [], padding: 'x'.repeat(bytes) })
  isError(t, await ask(api, { url, body: padding(10_000_000) }), 'payload_too_large', '10 MB')
  isError(
    t,
    await ask(api, { url: messagesOf(api), body: padding(600_000) }),
    'payload_too_large',
    'too large for one message',
  )
  isError(t, await ask(api, { url, body: padding(600_000) }), 'invalid_request', 'not too large for a batch')
})

t.test(
  'a large body that exceeds the bytes of all large bodies is overloaded, until another sender is gone',
  async (t) => {
    const api = await startTestApi(t, { http: { largeBodiesBytesMax: 1_000_000, requestTimeoutMs: 30_000 } })
    const url = `${messagesOf(api)}:batch`
    const padding = (bytes: number) => ({ messages: [], padding: 'x'.repeat(bytes) })
    // A body in transfer reserves its bytes. A second one that does not fit beside it is refused until the first is gone.
    const { port } = await api.gateway.listen()
    const socket = connect(port, '127.0.0.1')
    const head = [`POST ${url} HTTP/1.1`, 'host: x', `authorization: Bearer ${api.token}`, 'content-length: 600000']
    socket.write(`${head.join('\r\n')}\r\nexpect: 100-continue\r\n\r\n`)
    await new Promise((resolve) => socket.once('data', resolve))
    socket.write('{')
    const refused = async () => (await ask(api, { url, body: padding(600_000) })).body.error.code === 'overloaded'
    await until('the second body is refused', refused)
    socket.destroy()
    await until('the bytes of the sender that is gone are free again', async () => !(await refused()))
    t.equal(await refused(), false)
  },
)

t.test('requests without a token reserve none of the bytes of large bodies', async (t) => {
  const api = await startTestApi(t, { http: { largeBodiesBytesMax: 1_000_000, requestTimeoutMs: 30_000 } })
  const { port } = await api.gateway.listen()
  for (const size of ['content-length: 4096', 'transfer-encoding: chunked']) {
    for (let n = 0; n < 2; n++) {
      const socket = connect(port, '127.0.0.1')
      t.teardown(() => socket.destroy())
      socket.write(`POST /device/v1/enrol HTTP/1.1\r\nhost: x\r\n${size}\r\nexpect: 100-continue\r\n\r\n`)
      await new Promise((resolve) => socket.once('data', resolve))
    }
  }
  const large = { messages: [], padding: 'x'.repeat(600_000) }
  isError(t, await ask(api, { url: `${messagesOf(api)}:batch`, body: large }), 'invalid_request', 'not overloaded')
  const long = { enrolmentKey: 'x', padding: 'x'.repeat(4_096) }
  isError(t, await ask(api, { url: '/device/v1/enrol', body: long, token: null }), 'payload_too_large')
})

t.test('a sender that leaves before its body is read frees its bytes of large bodies', async (t) => {
  const api = await startTestApi(t, { http: { largeBodiesBytesMax: 1_000_000 } })
  const url = `${messagesOf(api)}:batch`
  const { port } = await api.gateway.listen()
  const project = api.directory.project.bind(api.directory)
  let proceed = () => {}
  const senderLeft = new Promise<void>((resolve) => {
    proceed = resolve
  })
  const socket = connect(port, '127.0.0.1')
  const lookedUp = new Promise<void>((resolve) => {
    api.directory.project = async (id) => {
      resolve()
      await senderLeft
      return project(id)
    }
  })
  const head = [`POST ${url} HTTP/1.1`, 'host: x', `authorization: Bearer ${api.token}`, 'content-length: 600000']
  const closed = new Promise((resolve) =>
    api.gateway.app.server.once('connection', (connection) => connection.once('close', resolve)),
  )
  socket.write(`${head.join('\r\n')}\r\n\r\n{`)
  await lookedUp
  socket.destroy()
  await closed
  proceed()
  const large = { messages: [], padding: 'x'.repeat(600_000) }
  isError(t, await ask(api, { url, body: large }), 'invalid_request', 'not overloaded')
})

t.test('a body that takes longer than requestTimeoutMs is answered 408', async (t) => {
  const api = await startTestApi(t, { http: { requestTimeoutMs: 1_000 } })
  const { port } = await api.gateway.listen()
  const socket = connect(port, '127.0.0.1')
  const head = [`POST ${messagesOf(api)}:batch HTTP/1.1`, 'host: x', `authorization: Bearer ${api.token}`]
  socket.write(`${head.join('\r\n')}\r\ncontent-length: 100\r\n\r\n{"messages":`)
  const answer = await everything(socket)
  t.match(answer, /^HTTP\/1.1 408 /)
  t.match(answer, /"request_timeout"/)
  t.same(api.core.accepted, [])
})
