/** Runs the programs of docs/examples against the whole service, with the faults that they survive by the documentation. */
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { Collected } from '../contract/suite.js'
import { startLive } from '../device/live.js'
import { Inbox } from '../device/support.js'
import { type AdminCli, adminCli } from '../support/admin.js'
import { until } from '../support/api.js'
import { type Language, runExample, startExample } from '../support/examples.js'
import { startReceiver } from '../support/receiver.js'
import { quickWebhooks } from '../support/webhooks.js'

t.setTimeout(180_000)

/** Stands between the programs and the core. It records requests, and applies one of `faults` to each POST of messages. */
interface Proxy {
  readonly url: string
  /** The address of the core, set when it has started. */
  coreUrl: string
  readonly requests: string[]
  readonly faults: ((response: ServerResponse, forward: () => Promise<void>) => void)[]
}

async function startProxy(t: Test): Promise<Proxy> {
  const server = createServer(async (asked, response) => {
    const body = await bodyOf(asked)
    proxy.requests.push(asked.url ?? '')
    const forward = async () => {
      const onward = request(`${proxy.coreUrl}${asked.url}`, { method: asked.method, headers: asked.headers })
      onward.end(body)
      const [answer] = (await once(onward, 'response')) as [IncomingMessage]
      const text = await bodyOf(answer)
      if (!response.destroyed) response.writeHead(answer.statusCode ?? 0, answer.headers).end(text)
    }
    const fault = asked.url?.endsWith('/messages') ? proxy.faults.shift() : undefined
    if (fault) fault(response, forward)
    else await forward()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const proxy: Proxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    coreUrl: '',
    requests: [],
    faults: [],
  }
  return proxy
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

interface Setup {
  proxy: Proxy
  admin: AdminCli
  /** The settings file of the project `shop`. */
  settingsFile: string
  application: string
  registrationId: string
  deviceId: string
  inbox: Inbox
  /** Registers the application for the user of a token. */
  registerUser(userToken: string): Promise<void>
}

async function setUp(t: Test): Promise<Setup> {
  const proxy = await startProxy(t)
  // The lease outlasts the delays of a busy machine. A core that loses it answers 503, and these tests count attempts.
  const core = { leaseMs: 30_000 }
  const live = await startLive(t, { webhooks: quickWebhooks, publicUrl: proxy.url, core })
  proxy.coreUrl = live.coreUrl
  const { url, user, password } = live.nats.settingsAs('admin')
  const { allowHttp, allowedNetworks } = quickWebhooks
  const folder = t.testdir()
  const keyringFile = join(folder, 'keyring.json')
  writeFileSync(keyringFile, live.keyring.serialize(), { mode: 0o600 })
  const admin = adminCli(folder, {
    nats: { url, user, password },
    keyring: { file: keyringFile },
    http: { publicUrl: proxy.url },
    webhooks: { allowHttp, allowedNetworks },
  })
  const settingsFile = join(folder, 'settings.yaml')
  writeFileSync(settingsFile, await admin.text('project', 'create', '--id', 'shop'))
  const { applicationId: application } = await admin.json('application', 'create', '--project', 'shop')
  const device = await live.device('phone')
  const inbox = new Inbox(device)
  device.connect()
  const { registrationId } = await device.register(application)
  return {
    ...{ proxy, admin, settingsFile, application, registrationId, inbox },
    deviceId: device.deviceId ?? '',
    registerUser: async (userToken) => void (await device.register(application, { userToken })),
  }
}

const titlesOf = ({ inbox }: Setup) => inbox.notifications.map(({ title }) => title)

for (const language of ['TypeScript', 'Python'] satisfies Language[]) {
  t.test(`the programs in ${language}`, async (t) => {
    const world = await setUp(t)
    const { proxy, admin, settingsFile, application, registrationId, deviceId, inbox } = world
    const message = (title: string, changes: object = {}) =>
      JSON.stringify({ type: 'device', target: registrationId, ttl: '1h', notification: { title }, ...changes })
    const send = (job: string, ...messages: string[]) => runExample(language, 'send', [settingsFile, job, ...messages])
    const countOf = (ending: string) => proxy.requests.filter((url) => url.endsWith(ending)).length

    await t.test('send: two messages are accepted with one token and reach the device', async (t) => {
      const { code, out, err } = await send('two', message('first'), message('second'))
      t.equal(code, 0, err)
      const answers = out.trim().split('\n')
      t.equal(answers.length, 2)
      for (const answer of answers) t.match(JSON.parse(answer), { status: 'accepted', target: registrationId })
      t.equal(countOf('/oauth2/token'), 1)
      await inbox.next(2)
      t.same(titlesOf(world), ['first', 'second'])
    })

    await t.test('send: after a lost answer the same key is sent again, and the device gets one message', async (t) => {
      const before = countOf('/messages')
      proxy.faults.push((response, forward) => {
        response.destroy()
        void forward()
      })
      const { code, err } = await send('lost-answer', message('once'))
      t.equal(code, 0, err)
      t.equal(countOf('/messages') - before, 2, 'two attempts')
      t.equal((await send('lost-answer', message('once'))).code, 0, 'the job runs again')
      t.equal((await send('after', message('after it'))).code, 0)
      await inbox.next(4)
      t.same(titlesOf(world).slice(2), ['once', 'after it'])
    })

    await t.test('send: a 503 is retried, not before Retry-After', async (t) => {
      const times: number[] = []
      const away = { error: { code: 'unavailable', message: 'the store is away', details: {} } }
      proxy.faults.push(
        (response) => {
          times.push(performance.now())
          const headers = { 'content-type': 'application/json', 'retry-after': '2' }
          response.writeHead(503, headers).end(JSON.stringify(away))
        },
        (_, forward) => {
          times.push(performance.now())
          void forward()
        },
      )
      const { code, err } = await send('away', message('patient'))
      t.equal(code, 0, err)
      const [refusedAt = 0, triedAt = 0] = times
      // Timers of a process may fire slightly early.
      t.ok(triedAt - refusedAt >= 1_990, `${triedAt - refusedAt} ms`)
    })

    await t.test('send: an expired token is replaced', async (t) => {
      const before = countOf('/oauth2/token')
      proxy.faults.push((response) => {
        const expired = { error: { code: 'token_expired', message: 'the token has expired', details: {} } }
        response.writeHead(401, { 'content-type': 'application/json' }).end(JSON.stringify(expired))
      })
      const { code, err } = await send('expired', message('with a new token'))
      t.equal(code, 0, err)
      t.equal(countOf('/oauth2/token') - before, 2)
    })

    await t.test('send: a settings file with an ES256 key is accepted', async (t) => {
      const file = join(t.testdir(), 'settings.yaml')
      writeFileSync(file, await admin.text('project', 'add-key', 'shop', '--alg', 'ES256'))
      await until('the core knows the key', async () => {
        const { code, err } = await runExample(language, 'send', [file, 'es256', message('signed with ES256')])
        if (code !== 0 && !err.includes('no key of this kid')) throw new Error(err)
        return code === 0
      })
      await until('the message arrives', () => titlesOf(world).includes('signed with ES256'))
    })

    await t.test('send: a refused message or token request ends the program at once with the error code', async (t) => {
      const before = countOf('/messages')
      const { code, err } = await send('forged', message('x', { target: `${registrationId.slice(0, -2)}AA` }))
      t.equal(code, 1)
      t.match(err, /unknown_registration/)
      t.equal(countOf('/messages') - before, 1)
      const other = parse(await admin.text('project', 'create'))
      const stranger = join(t.testdir(), 'stranger.yaml')
      const key = { key_id: other.push_notification_system.key_id }
      const mixed = { ...parse(readFileSync(settingsFile, 'utf8')).push_notification_system, ...key }
      writeFileSync(stranger, stringify({ push_notification_system: mixed }))
      const refused = await runExample(language, 'send', [stranger, 'stranger', message('x')])
      t.equal(refused.code, 1)
      t.match(refused.err, /invalid_client/)
    })

    await t.test(
      'user-token: a device registers with its token and gets messages to the user; another is refused',
      async (t) => {
        const { code, out, err } = await runExample(language, 'user-token', [
          settingsFile,
          application,
          deviceId,
          'anna',
        ])
        t.equal(code, 0, err)
        await world.registerUser(out.trim())
        t.equal((await send('to-user', message('to Anna', { type: 'user', target: 'anna' }))).code, 0)
        await until('the message arrives', () => titlesOf(world).includes('to Anna'))
        const foreign = await runExample(language, 'user-token', [settingsFile, application, 'dev_another', 'anna'])
        const refusal = await world.registerUser(foreign.out.trim()).catch((error: unknown) => error)
        t.match(refusal, { serverCode: 'bad_user_token' })
      },
    )

    await t.test('webhook: each event is printed once, and a forged POST is refused', async (t) => {
      const probe = await startReceiver(t)
      await probe.stop()
      const { secret } = await admin.json('webhook', 'set', 'shop', '--url', probe.url)
      const lines = new Collected<string>()
      const env = { WEBHOOK_SECRET: secret, PORT: String(probe.port) }
      startExample(t, language, 'webhook', env, (line) => lines.add(line))
      await lines.until(1)
      t.equal(lines.all[0], 'listening')
      const { out } = await send('watched', message('watched'))
      const { id } = JSON.parse(out)
      const [, line = ''] = await lines.until(2)
      const event = JSON.parse(line)
      t.match(event, { kind: 'delivered', messageId: id, target: registrationId })

      const post = async (body: string, key: string, timestamp = Math.floor(Date.now() / 1_000)) => {
        const bytes = Buffer.from(key.replace('whsec_', ''), 'base64')
        const signature = createHmac('sha256', bytes).update(`batch_1.${timestamp}.${body}`).digest('base64')
        const headers = {
          'content-type': 'application/json',
          'webhook-id': 'batch_1',
          'webhook-timestamp': String(timestamp),
          'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')} v1,${signature}`,
        }
        return (await fetch(probe.url, { method: 'POST', headers, body })).status
      }
      const repeated = JSON.stringify({ v: 1, events: [event] })
      t.equal(await post(repeated, secret), 204, 'the same event again')
      const forged = JSON.stringify({ v: 1, events: [{ ...event, id: 'forged' }] })
      t.equal(await post(forged, `whsec_${Buffer.alloc(32).toString('base64')}`), 401, 'another key')
      t.equal(await post(forged, secret, Math.floor(Date.now() / 1_000) - 600), 401, 'an old request')
      await send('watched-2', message('watched too'))
      const all = await lines.until(3)
      t.equal(all.length, 3)
      t.match(JSON.parse(all[2] ?? ''), { kind: 'delivered' })
      t.not(JSON.parse(all[2] ?? '').id, event.id)
    })
  })
}
