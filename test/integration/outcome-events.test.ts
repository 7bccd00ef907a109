/** The outcomes of pushes as an app server gets them, with a real device, core, nats-server and webhook receiver. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import t from 'tap'
import { systemClock } from '../../src/clock.js'
import { FeedAdministration } from '../../src/core/outcomes/feed-administration.js'
import { Administration } from '../../src/core/tenants/administration.js'
import type { Actor } from '../../src/core/tenants/auth/roles.js'
import { Collected } from '../contract/suite.js'
import { startLive } from '../device/live.js'
import { until } from '../support/api.js'
import { PUBLISHER_PROJECT } from '../support/nats.js'
import { startReceiver } from '../support/receiver.js'
import { quickWebhooks } from '../support/webhooks.js'

t.setTimeout(120_000)

const root: Actor = { name: 'cli:test', role: 'operator', projects: '*' }

t.test('the outcomes of a project with a webhook and a NATS subscriber', async (t) => {
  const live = await startLive(t, { webhooks: quickWebhooks })
  const { nats, application } = live
  const broker = await nats.brokerAs('admin')
  const administration = new Administration(broker, systemClock)
  const feeds = new FeedAdministration({
    ...{ administration, broker, clock: systemClock, split: nats.store.split, settings: quickWebhooks },
    secrets: () => live.keyring.secretsKeys,
  })
  const receiver = await startReceiver(t)
  const set = await feeds.setWebhook(root, PUBLISHER_PROJECT, { url: receiver.url, kinds: null })
  receiver.secrets = [set.secret ?? '']

  const subscriber = await nats.brokerAs('subscriber')
  const onNats = new Collected<{ subject: string; event: Record<string, unknown> }>()
  subscriber.bus.subscribe(`push.event.${PUBLISHER_PROJECT}.*`, ({ subject, body }) =>
    onNats.add({ subject, event: JSON.parse(Buffer.from(body).toString()) }),
  )
  const device = await live.device('first')
  device.connect()
  const { registrationId } = await device.register(application)

  await t.test('have the same event of a delivered push on NATS and at the webhook', async (t) => {
    const first = await live.send('device', registrationId, 'hello')
    const expected = {
      ...{
        v: 1,
        id: `${first}.delivered`,
        kind: 'delivered',
        projectId: PUBLISHER_PROJECT,
        applicationId: application,
      },
      ...{ messageId: first, target: registrationId, time: String, reason: null },
    }
    await receiver.until(() => receiver.events.length === 1)
    t.match(receiver.events, [expected])
    t.match(await onNats.until(1), [{ subject: `push.event.${PUBLISHER_PROJECT}.delivered`, event: expected }])
    t.same(onNats.all[0]?.event, receiver.events[0])
  })

  await t.test('reach the receiver after it was down', async (t) => {
    await receiver.stop()
    const ids = [await live.send('device', registrationId, '2'), await live.send('device', registrationId, '3')]
    await onNats.until(3)
    await receiver.start()
    await receiver.until(() => receiver.events.length >= 3)
    t.same(new Set(receiver.events.slice(1).map(({ messageId }) => messageId)), new Set(ids))
  })

  await t.test('are posted again under the same id after a redirect, an error and a time-out', async (t) => {
    const [events, posts] = [receiver.events.length, receiver.posts.length]
    const answers: (typeof receiver.answer)[] = [
      (response) => response.writeHead(302, { location: `http://127.0.0.1:${receiver.port}/elsewhere` }).end(),
      (response) => response.writeHead(500).end('x'.repeat(100_000)),
      // Without an answer the sender ends the POST after its time-out.
      () => {},
    ]
    const good = receiver.answer
    receiver.answer = (response) => (answers.shift() ?? good)(response)
    await live.send('device', registrationId, '4')
    await receiver.until(() => receiver.events.length > events)
    const attempts = receiver.posts.slice(posts)
    t.equal(new Set(attempts.map(({ id }) => id)).size, 1)
    t.same(new Set(attempts.map(({ path }) => path)), new Set(['/hook']), 'a redirect is not followed')
    t.equal(attempts.length, 4)
  })

  await t.test('are verified with the old and with the new secret while it is changed', async (t) => {
    const before = receiver.secrets
    const { secret } = await feeds.rotateSecret(root, PUBLISHER_PROJECT)
    for (const secrets of [before, [secret]]) {
      receiver.secrets = secrets
      const count = receiver.events.length
      await live.send('device', registrationId, 'rotated')
      await receiver.until(() => receiver.events.length > count)
    }
    t.notOk(receiver.posts.some(({ status }) => status === 401))
  })

  await t.test('cannot be sent to a private address that is not allowed', async (t) => {
    const guarded = { ...quickWebhooks, allowedNetworks: '' }
    const strict = new FeedAdministration({
      ...{ administration, broker, clock: systemClock, split: nats.store.split, settings: guarded },
      secrets: () => live.keyring.secretsKeys,
    })
    await t.rejects(strict.setWebhook(root, PUBLISHER_PROJECT, { url: receiver.url, kinds: null }), {
      code: 'webhook_address_refused',
    })
  })

  await t.test('reach the example programs of the documentation, webhook and subscribe', async (t) => {
    const { url, user, password } = nats.settingsAs('subscriber')
    const example = (name: string, words: string[], env: Record<string, string>) => {
      const child = spawn(process.execPath, [`dist/docs/examples/${name}.js`, ...words], {
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.teardown(() => child.kill())
      const lines = new Collected<string>()
      createInterface({ input: child.stdout }).on('line', lines.add)
      return { lines, exited: once(child, 'close') }
    }
    const probe = await startReceiver(t)
    await probe.stop()
    const { secret } = await feeds.rotateSecret(root, PUBLISHER_PROJECT)
    const posted = example('webhook', [], { WEBHOOK_SECRET: secret, PORT: String(probe.port) })
    await posted.lines.until(1)
    await feeds.setWebhook(root, PUBLISHER_PROJECT, { url: probe.url, kinds: null })
    const id = await live.send('device', registrationId, 'example')
    t.match(JSON.parse((await posted.lines.until(2))[1] ?? ''), { messageId: id, kind: 'delivered' })
    const waiting = (await feeds.show(root, PUBLISHER_PROJECT)).waiting.reader ?? 0
    const env = { NATS_URL: url, NATS_USER: user, NATS_PASSWORD: password, EVENTS: String(waiting) }
    const subscriber = example('subscribe', [PUBLISHER_PROJECT], env)
    // The program ends after it has sent its acknowledgements.
    await subscriber.exited
    const printed = subscriber.lines.all
    t.equal(printed.length, waiting)
    t.ok(printed.some((line) => line.startsWith(`push.event.${PUBLISHER_PROJECT}.delivered {`) && line.includes(id)))
    await feeds.setWebhook(root, PUBLISHER_PROJECT, { url: receiver.url, kinds: null })
    receiver.secrets = [secret]
  })

  await t.test('wait on NATS after an answer 410 has disabled the webhook', async (t) => {
    receiver.answer = (response) => response.writeHead(410).end()
    const [posts, count] = [receiver.posts.length, onNats.all.length]
    await live.send('device', registrationId, 'gone')
    await receiver.until(() => receiver.posts.length > posts)
    const view = () => feeds.show(root, PUBLISHER_PROJECT)
    await until('the webhook is disabled', async () => !!(await view()).feed?.webhook?.disabled)
    await live.send('device', registrationId, 'still')
    await onNats.until(count + 2)
    t.equal(receiver.posts.length, posts + 1)
    // An event counts as waiting a moment after it was received live. The change of the url may have overtaken the
    // acknowledgement of the previous event, which then waits too.
    await until('both events wait for the webhook', async () => ((await view()).waiting.webhook ?? 0) >= 2)
    t.equal((await view()).waiting.reader, 2, 'the example program has acknowledged the earlier ones')
  })
  await device.close()
})
