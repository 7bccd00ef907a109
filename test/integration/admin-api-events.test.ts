import { join } from 'node:path'
import t from 'tap'
import { createKeyring } from '../../src/cli/keyring-file.js'
import { FINAL_KINDS } from '../../src/store/events.js'
import { adminCli } from '../support/admin.js'
import { startAdminApi } from '../support/admin-api.js'
import { isError } from '../support/http.js'

t.test('a developer administers the outcome events of a project', async (t) => {
  const { api, credential, call } = await startAdminApi(t)
  const developer = await credential('developer', api.project)
  const own = `/projects/${api.project}`
  const off = { projectId: api.project, isOn: false, nats: null, webhook: null }
  const url = 'https://app.example.com/hook?for=acme'

  await t.test('turning events on or off answers the new state, and so does a repeat', async (t) => {
    t.same((await call('GET', `${own}/events`, developer)).body, off)
    const nats = { subject: 'push.event.acme.*', stream: 'PUSH_EVENTS', consumer: 'reader-acme', waiting: 0 }
    const on = { projectId: api.project, isOn: true, nats, webhook: null }
    t.same((await call('POST', `${own}/events`, developer)).body, on)
    t.same((await call('POST', `${own}/events`, developer)).body, on, 'a repeat')
    t.same((await call('DELETE', `${own}/events`, developer)).body, off)
    t.same((await call('DELETE', `${own}/events`, developer)).body, off, 'a repeat')
    isError(t, await call('POST', `${own}/webhook/retry`, developer), 'not_found', 'events are off')
  })

  await t.test('a webhook turns events on; its secret is answered once and kept when the url changes', async (t) => {
    const set = await call('PUT', `${own}/webhook`, developer, { url, kinds: ['failed', 'delivered'] })
    t.match(set, { statusCode: 200, headers: { 'cache-control': 'no-store' }, body: { isOn: true } })
    const { secret, webhook } = set.body
    t.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
    t.match(webhook, { url, kinds: ['delivered', 'failed'], state: 'new', waiting: 0, givenUp: 0, lastSuccessAt: null })
    t.match(webhook.secrets, [{ createdAt: String, endsAt: null }])
    const changed = await call('PUT', `${own}/webhook`, developer, { url: 'https://app.example.com/other' })
    t.match(changed.body, { webhook: { url: 'https://app.example.com/other', kinds: FINAL_KINDS } })
    t.notOk('secret' in changed.body)
  })

  await t.test('a rotated secret is valid beside the previous one, and no third secret is', async (t) => {
    const { secret } = (
      await call('DELETE', `${own}/events`, developer).then(() => call('PUT', `${own}/webhook`, developer, { url }))
    ).body
    const rotated = await call('POST', `${own}/webhook/secret`, developer, {})
    t.equal(rotated.statusCode, 201)
    t.match(rotated.body, { secret: /^whsec_/, webhook: { secrets: [{ endsAt: null }, { endsAt: String }] } })
    t.not(rotated.body.secret, secret)
    const twice = await call('POST', `${own}/webhook/secret`, developer)
    t.equal(twice.body.webhook.secrets.length, 2)
    const shown = await call('GET', `${own}/events`, await credential('viewer', api.project))
    t.notMatch(JSON.stringify(shown.body), /whsec_/, 'no answer repeats a secret')
  })

  await t.test('a removed webhook is not_found for every action, and can be set again', async (t) => {
    t.equal((await call('PUT', `${own}/webhook`, developer, { url })).statusCode, 200)
    t.equal((await call('POST', `${own}/webhook/retry`, developer)).statusCode, 200)
    t.equal((await call('DELETE', `${own}/webhook`, developer)).body.webhook, null)
    for (const [method, path] of [
      ['DELETE', 'webhook'],
      ['POST', 'webhook/secret'],
      ['POST', 'webhook/retry'],
    ] as const) {
      isError(t, await call(method, `${own}/${path}`, developer), 'not_found', path)
    }
    const again = await call('PUT', `${own}/webhook`, developer, { url })
    t.match(again.body, { isOn: true, secret: /^whsec_/ })
  })

  await t.test('each action is in the audit log, without secrets and with the origin of the url only', async (t) => {
    const { entries } = (await call('GET', `/audit?project=${api.project}&limit=200`, developer)).body
    const actions = entries.map(({ action }: { action: string }) => action)
    for (const action of [
      'events.on',
      'events.off',
      'webhook.set',
      'webhook.rotate',
      'webhook.retry',
      'webhook.remove',
    ]) {
      t.ok(actions.includes(action), action)
    }
    t.notMatch(JSON.stringify(entries), /whsec_|hook\?for/)
  })
})

t.test('requests about events and webhooks', async (t) => {
  const { api, credential, call } = await startAdminApi(t, { allowedNetworks: '10.1.0.0/16' })
  const [viewer, developer] = [await credential('viewer', api.project), await credential('developer', api.project)]
  const own = `/projects/${api.project}`
  const url = 'https://app.example.com/hook'
  await t.test(
    'a viewer can read them and change nothing, and a developer cannot change another project',
    async (t) => {
      t.equal((await call('GET', `${own}/events`, viewer)).statusCode, 200)
      for (const [method, path] of [
        ['POST', 'events'],
        ['DELETE', 'events'],
        ['PUT', 'webhook'],
        ['DELETE', 'webhook'],
        ['POST', 'webhook/secret'],
        ['POST', 'webhook/retry'],
      ] as const) {
        isError(
          t,
          await call(method, `${own}/${path}`, viewer, method === 'PUT' ? { url } : undefined),
          'forbidden',
          path,
        )
        const other = await call(method, `/projects/other/${path}`, developer, method === 'PUT' ? { url } : undefined)
        isError(t, other, 'forbidden', `${path} of another project`)
      }
      isError(t, await call('GET', '/projects/other/events', viewer), 'forbidden')
    },
  )

  await t.test('an absent project is unknown_project', async (t) => {
    const operator = await credential('operator')
    isError(t, await call('GET', '/projects/nobody/events', operator), 'unknown_project')
    isError(t, await call('POST', '/projects/nobody/events', operator), 'unknown_project')
  })

  await t.test('an invalid webhook is invalid_request', async (t) => {
    const wrong = [
      ...[{}, { url: 5 }, { url: 'x' }, { url: 'http://app.example.com/' }, { url: 'https://u:p@app.example.com/' }],
      ...[
        { url: `https://app.example.com/${'x'.repeat(2_048)}` },
        { url, kinds: [] },
        { url, kinds: ['read'] },
        { url, kinds: 'delivered' },
        { url, kinds: [5] },
      ],
    ]
    for (const body of wrong) {
      isError(t, await call('PUT', `${own}/webhook`, developer, body), 'invalid_request', JSON.stringify(body))
    }
  })

  await t.test('a webhook at a private address is webhook_address_refused', async (t) => {
    for (const host of ['127.0.0.1', '10.2.0.1', '169.254.169.254', '[::1]', '2130706433']) {
      const body = { url: `https://${host}/` }
      isError(t, await call('PUT', `${own}/webhook`, developer, body), 'webhook_address_refused', host)
    }
  })

  await t.test('a refused webhook does not turn events on, and one in an allowed network is set', async (t) => {
    t.equal((await call('GET', `${own}/events`, viewer)).body.isOn, false)
    t.equal((await call('PUT', `${own}/webhook`, developer, { url: 'https://10.1.0.7/' })).statusCode, 200)
  })
})

t.test('the commands "borealis admin events" and "borealis admin webhook" answer as the admin API does', async (t) => {
  const { api } = await startAdminApi(t)
  const { url, user, password } = api.nats.settingsAs('admin')
  const folder = t.testdir()
  const file = join(folder, 'keyring.json')
  createKeyring(file, Date.now())
  const cli = adminCli(folder, {
    keyring: { file },
    nats: { url, user, password },
    store: { split: api.nats.store.split },
    webhooks: { allowHttp: true, allowedNetworks: '127.0.0.1' },
  })
  t.match(await cli.json('events', 'on', 'acme'), { isOn: true, webhook: null })
  const set = await cli.json(
    'webhook',
    'set',
    'acme',
    '--url',
    'http://127.0.0.1:9/hook',
    '--kinds',
    'delivered,failed',
  )
  t.match(set, { secret: /^whsec_/, webhook: { kinds: ['delivered', 'failed'] } })
  t.match(await cli.text('webhook', 'rotate', 'acme'), /secret: whsec_/)
  t.match(await cli.json('webhook', 'retry', 'acme'), { webhook: { state: 'new' } })
  t.match(await cli.json('webhook', 'remove', 'acme'), { isOn: true, webhook: null })
  t.match(await cli.json('events', 'show', 'acme'), { isOn: true })
  t.match(await cli.json('events', 'off', 'acme'), { isOn: false })
  await t.rejects(cli.json('webhook', 'set', 'acme', '--url', 'https://10.0.0.1/'), /webhook_address_refused/)
})
