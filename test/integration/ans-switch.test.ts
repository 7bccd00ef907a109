import { randomUUID } from 'node:crypto'
import { importPKCS8 } from 'jose'
import * as oauth from 'oauth4webapi'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import type { BorealisClient, Notification } from '../../src/device/index.js'
import { type Live, startLive } from '../device/live.js'
import { Inbox } from '../device/support.js'
import { type AdminCli, adminCli } from '../support/admin.js'
import { until } from '../support/api.js'

/**
 * The steps of docs/send/ans-switch.md: the commands of an operator, an app server that knows its settings file alone and
 * has a stock OAuth client, and a push on a device.
 */
class AppServer {
  readonly settings: Record<string, string>

  constructor(file: string) {
    this.settings = parse(file).push_notification_system
  }

  private setting(name: string): string {
    return this.settings[name] ?? ''
  }

  async token(): Promise<string> {
    const key = await importPKCS8(this.setting('private_key'), 'RS256')
    const client = { client_id: this.setting('client_id') }
    const as = { issuer: new URL('..', this.setting('token_url')).href, token_endpoint: this.setting('token_url') }
    const auth = oauth.PrivateKeyJwt({ key, kid: this.setting('key_id') })
    const parameters = { scope: this.setting('scopes'), audience: this.setting('audience') }
    const http = { [oauth.allowInsecureRequests]: true }
    const response = await oauth.clientCredentialsGrantRequest(as, client, auth, parameters, http)
    return (await oauth.processClientCredentialsResponse(as, client, response)).access_token
  }

  // biome-ignore lint/suspicious/noExplicitAny: bodies are compared, not trusted
  async call(method: string, path: string, body?: object): Promise<{ status: number; body: any }> {
    // Simple clients join the parts of a URL with two slashes.
    const url = `${this.setting('api_url')}/projects/${this.setting('project_id')}${path}`
    const response = await fetch(url, {
      method,
      headers: { authorization: `Bearer ${await this.token()}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: await response.json() }
  }

  async send(type: string, target: string, title: string): Promise<{ status: number; body: { id: string } }> {
    return this.call('POST', '/messages', {
      type,
      target,
      ttl: '1h',
      notification: { title, data: { mtype: 'notify' } },
    })
  }
}

interface Switched {
  live: Live
  admin: AdminCli
  server: AppServer
  device: BorealisClient
  /** Resolves when the app gets a push with this title. */
  arrival(title: string): Promise<Notification>
  /**
   * Resolves when messages to this group no longer reach the device. Workers learn of a change a little later. So each
   * round sends a message to the group and then one to another group. When only the second arrives, the device has left.
   */
  isLeft(type: string, target: string): Promise<void>
  application: string
  registrationId: string
}

async function setUp(t: Test): Promise<Switched> {
  const live = await startLive(t)
  const { url, user, password } = live.nats.settingsAs('admin')
  const admin = adminCli(t.testdir(), { nats: { url, user, password }, http: { publicUrl: live.coreUrl } })
  const server = new AppServer(await admin.text('project', 'create', '--id', 'shop', '--name', 'The shop'))
  const { applicationId: application } = await admin.json('application', 'create', '--project', 'shop')
  const device = await live.device('phone')
  const inbox = new Inbox(device)
  device.connect()
  const { registrationId } = await device.register(application)
  const { applicationId: other } = await admin.json('application', 'create', '--project', 'shop')
  await device.register(other)
  const titled = (title: string) => inbox.notifications.find((notification) => notification.title === title)
  const arrival = async (title: string) => {
    for (let count = 1; !titled(title); count = inbox.notifications.length + 1) await inbox.next(count)
    return titled(title) as Notification
  }
  const isLeft = (type: string, target: string) =>
    until(`${type} ${target} is left`, async () => {
      const round = randomUUID()
      await server.send(type, target, `gone ${round}`)
      await server.send('application', other, `here ${round}`)
      await arrival(`here ${round}`)
      return !titled(`gone ${round}`)
    })
  return { live, admin, server, device, arrival, isLeft, application, registrationId }
}

t.test('an app server that moves from ANS with its settings file reaches a device', { timeout: 120_000 }, async (t) => {
  const { admin, server, arrival, isLeft, application, registrationId } = await setUp(t)
  t.match(await server.call('GET', ''), {
    status: 200,
    body: { id: 'shop', name: 'The shop', isActive: true, serviceAccount: { clientId: server.settings.client_id } },
  })
  const sent = await server.send('device', registrationId, 'switched')
  t.equal(sent.status, 202)
  t.match(await arrival('switched'), { id: sent.body.id, application, data: { mtype: 'notify' } })
  const status = async () => (await server.call('GET', `/messages/${sent.body.id}`)).body.status
  await until('the status is delivered', async () => (await status()) === 'delivered')

  await t.test('the registration is listed with the channel native', async (t) => {
    const { body } = await server.call('GET', `/registrations?application=${application}`)
    t.match(body, { registrations: [{ registrationId, application, user: '', channel: 'native' }] })
    t.notOk(body.next)
    t.same((await server.call('GET', '/registrations?user=nobody')).body, { registrations: [] })
  })

  await t.test('a subscribed device gets messages to the topic until it is unsubscribed', async (t) => {
    const registrationIds = [registrationId]
    const forged = `${registrationId.slice(0, -2)}AA`
    const subscribed = await server.call('POST', '/topics/news/subscribe', {
      registrationIds: [...registrationIds, forged],
    })
    t.same(subscribed.body, {
      ...{ topic: 'news', done: 1, rejected: [{ target: forged, code: 'unknown_registration' }] },
    })
    await server.send('topic', 'news', 'to those who follow')
    t.ok(await arrival('to those who follow'))
    t.same((await server.call('POST', '/topics/news/unsubscribe', { registrationIds })).body.done, 1)
    await isLeft('topic', 'news')
  })

  await t.test('while a key is replaced, the old or the new key is valid at each moment', async (t) => {
    const after = new AppServer(await admin.text('project', 'add-key', 'shop'))
    await until('the new key is known', () => after.token().then(Boolean, () => false))
    t.ok(await server.token(), 'the old key is still valid')
    await admin.text('project', 'remove-key', 'shop', String(server.settings.key_id))
    await until('the old key is refused', () =>
      server.token().then(
        () => false,
        (error) => error.error === 'invalid_client',
      ),
    )
    t.equal((await after.send('device', registrationId, 'with the new key')).status, 202)
    Object.assign(server.settings, after.settings)
    t.ok(await arrival('with the new key'))
  })

  await t.test('a suspended project gets 403, and can send again once resumed', async (t) => {
    await admin.text('project', 'suspend', 'shop')
    await until('the suspension is in effect', async () => (await server.call('GET', '')).body.isActive === false)
    t.match(await server.send('device', registrationId, 'x'), { status: 403 })
    await admin.text('project', 'resume', 'shop')
    await until(
      'the suspension is over',
      async () => (await server.send('device', registrationId, 'resumed')).status === 202,
    )
    t.ok(await arrival('resumed'))
  })
})

t.test(
  'a revoked registration gets no message, and its app gets a new registrationId',
  { timeout: 120_000 },
  async (t) => {
    const { live, server, device, arrival, isLeft, application, registrationId } = await setUp(t)
    await server.send('application', application, 'to all')
    t.ok(await arrival('to all'))
    const revoked = await server.call('DELETE', `/registrations/${registrationId}`)
    t.same(revoked, { status: 200, body: { registrationId, revoked: true } })
    t.equal(
      (await server.call('DELETE', `/registrations/${registrationId}`)).status,
      200,
      'a second revocation changes nothing',
    )
    await until('senders are refused', async () => (await server.send('device', registrationId, 'x')).status === 410)
    const listed = await server.call('GET', `/registrations?application=${application}`)
    t.same(listed.body, { registrations: [] })
    const topic = await server.call('POST', '/topics/news/subscribe', { registrationIds: [registrationId] })
    t.match(topic.body, { done: 0, rejected: [{ code: 'revoked_registration' }] })

    // The connected device leaves the group of its application without a reconnect.
    await isLeft('application', application)
    // When the device connects again, it learns that its registrations have changed, and registers again.
    await device.close()
    const restarted = await live.device('phone')
    const inbox = new Inbox(restarted)
    restarted.connect()
    const currentId = async () => (await restarted.register(application)).registrationId
    await until('the app has a new id', async () => (await currentId()) !== registrationId)
    await server.send('device', await currentId(), 'to the new id')
    await until('the message to the new id arrives', () =>
      inbox.notifications.some(({ title }) => title === 'to the new id'),
    )
  },
)
