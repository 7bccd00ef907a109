import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { enrol } from '../../src/device/enrol.js'

const KEY = 'key'

/** Starts an HTTP server in the place of the core, and gives its URL. */
async function startCore(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

t.test('enrol sends the key and the name, and gives the identity of the answer', async (t) => {
  const url = await startCore(t, async (request, response) => {
    t.equal(request.url, '/device/v1/enrol')
    t.same(JSON.parse(await text(request)), { enrolmentKey: KEY, name: 'lamp' })
    json(response, 201, { deviceId: 'dev_1', token: 'jwt', expiresAt: '2030-01-01T00:00:00Z', transportUrl: 'ws://t' })
  })
  const identity = await enrol({ url, enrolmentKey: KEY, name: 'lamp' })
  t.same(identity, { deviceId: 'dev_1', token: 'jwt', expiresAtMs: Date.UTC(2030, 0, 1), url: 'ws://t', core: url })
})

t.test('a refusal by the core is enrol_refused with the code of the core', async (t) => {
  const url = await startCore(t, (_request, response) =>
    json(response, 401, { error: { code: 'bad_enrolment_key', message: 'no' } }),
  )
  await t.rejects(enrol({ url, enrolmentKey: KEY }), { code: 'enrol_refused', serverCode: 'bad_enrolment_key' })
})

t.test('an unusable answer or none within the time-out is enrol_unreachable', async (t) => {
  const cases: Record<string, (request: IncomingMessage, response: ServerResponse) => void> = {
    'status 503': (_request, response) => json(response, 503, { error: { code: 'unavailable', message: 'later' } }),
    'not JSON': (_request, response) => response.end('<html>'),
    'not an object': (_request, response) => json(response, 200, 3),
    'no token': (_request, response) => json(response, 200, { deviceId: 'dev_1' }),
    'a redirect': (_request, response) => response.writeHead(302, { location: '/' }).end(),
    'a body above the limit': (_request, response) => response.end('x'.repeat(70_000)),
    'no answer': () => undefined,
  }
  for (const [name, answer] of Object.entries(cases)) {
    const url = await startCore(t, answer)
    await t.rejects(enrol({ url, enrolmentKey: KEY, timeoutMs: 200 }), { code: 'enrol_unreachable' }, name)
  }
})

t.test('a core that does not listen, or a URL without a host, is enrol_unreachable', async (t) => {
  await t.rejects(enrol({ url: 'http://127.0.0.1:1', enrolmentKey: KEY }), { code: 'enrol_unreachable' })
  await t.rejects(enrol({ url: 'nowhere', enrolmentKey: KEY }), { code: 'enrol_unreachable' })
})
