import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { enrol } from '../../src/device/enrol.js'

const KEY = 'key'

async function core(t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
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

t.test('an identity for a key', async (t) => {
  const url = await core(t, async (request, response) => {
    t.equal(request.url, '/device/v1/enrol')
    t.same(JSON.parse(await text(request)), { enrolmentKey: KEY, name: 'lamp' })
    json(response, 201, { deviceId: 'dev_1', token: 'jwt', expiresAt: '2030-01-01T00:00:00Z', transportUrl: 'ws://t' })
  })
  const identity = await enrol({ url, enrolmentKey: KEY, name: 'lamp' })
  t.same(identity, { deviceId: 'dev_1', token: 'jwt', expiresAtMs: Date.UTC(2030, 0, 1), url: 'ws://t', core: url })
})

t.test('a refusal carries its code', async (t) => {
  const url = await core(t, (_request, response) =>
    json(response, 401, { error: { code: 'bad_enrolment_key', message: 'no' } }),
  )
  await t.rejects(enrol({ url, enrolmentKey: KEY }), { code: 'enrol_refused', serverCode: 'bad_enrolment_key' })
})

t.test('what is no core, is busy, silent or away', async (t) => {
  const cases: Record<string, (request: IncomingMessage, response: ServerResponse) => void> = {
    unavailable: (_request, response) => json(response, 503, { error: { code: 'unavailable', message: 'later' } }),
    'not JSON': (_request, response) => response.end('<html>'),
    'not an object': (_request, response) => json(response, 200, 3),
    'no token': (_request, response) => json(response, 200, { deviceId: 'dev_1' }),
    'a redirect': (_request, response) => response.writeHead(302, { location: '/' }).end(),
    endless: (_request, response) => response.end('x'.repeat(70_000)),
    silent: () => undefined,
  }
  for (const [name, answer] of Object.entries(cases)) {
    const url = await core(t, answer)
    await t.rejects(enrol({ url, enrolmentKey: KEY, timeoutMs: 200 }), { code: 'enrol_unreachable' }, name)
  }
  await t.rejects(enrol({ url: 'http://127.0.0.1:1', enrolmentKey: KEY }), { code: 'enrol_unreachable' })
  await t.rejects(enrol({ url: 'nowhere', enrolmentKey: KEY }), { code: 'enrol_unreachable' })
})
