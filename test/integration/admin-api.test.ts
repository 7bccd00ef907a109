import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import t from 'tap'
import { parse } from 'yaml'
import type { ErrorCode } from '../../protocol/errors.js'
import { Actions, mayDo, ROLES } from '../../src/core/tenants/auth/roles.js'
import { root, startAdminApi } from '../support/admin-api.js'
import { type Answer, isError } from '../support/http.js'
import { askToken, assertionOf } from '../support/oauth.js'

t.test('an operator of the admin API', async (t) => {
  const { api, administration, credential, call } = await startAdminApi(t)
  const operator = await credential('operator')
  /** Creates a project and returns the answer: its keys and the settings file of its app server. */
  const createProject = (id: string) => call('POST', '/projects', operator, { id, name: 'The shop', alg: 'ES256' })
  const settingsIn = ({ body }: Answer) => parse(body.settingsFile).push_notification_system

  await t.test('a created project is answered with the settings file of an app server', async (t) => {
    const created = await createProject('shop')
    t.equal(created.statusCode, 201)
    t.equal(created.headers['cache-control'], 'no-store')
    const settings = settingsIn(created)
    t.same(Object.keys(settings), [
      ...['project_id', 'push_public_address', 'api_url', 'client_id', 'scopes', 'audience', 'token_url'],
      ...['private_key', 'key_id'],
    ])
    t.match(settings, {
      project_id: 'shop',
      api_url: 'https://push.example.com/push/public/api/v1/',
      token_url: 'https://push.example.com/auth/public/oauth2/token',
      client_id: created.body.clientId,
      key_id: created.body.keyId,
    })
    const stored = JSON.stringify(await administration.project(root, 'shop'))
    t.notMatch(stored, /PRIVATE|"d"/, 'the server does not keep the private key')
  })

  await t.test('the key of a new project gets a token at once, also at a core that has not seen it', async (t) => {
    const settings = settingsIn(await createProject('signs'))
    const key = { keyId: settings.key_id, alg: 'ES256' as const, privateKey: settings.private_key }
    const claims = { iss: settings.client_id, sub: settings.client_id }
    const parameters = { client_assertion: await assertionOf(api, { key, claims }), scope: settings.scopes }
    t.equal((await askToken(api, { parameters })).status, 200)
  })

  await t.test('a key can be added and removed, but the last key of a project stays', async (t) => {
    const created = await createProject('keys')
    const added = await call('POST', '/projects/keys/keys', operator, {})
    t.match(added, { statusCode: 201, body: { alg: 'RS256', settings: { push_notification_system: {} } } })
    const remaining = await call('DELETE', `/projects/keys/keys/${created.body.keyId}`, operator)
    t.match(remaining.body, { keyIds: [added.body.keyId] })
    const last = await call('DELETE', `/projects/keys/keys/${added.body.keyId}`, operator)
    isError(t, last, 'conflict', 'the last key')
    isError(t, await call('DELETE', '/projects/keys/keys/none', operator), 'not_found')
  })

  await t.test('a second project of the same id is refused', async (t) => {
    await createProject('taken')
    isError(t, await call('POST', '/projects', operator, { id: 'taken', alg: 'ES256' }), 'conflict')
  })

  await t.test('a project can be suspended, resumed and limited', async (t) => {
    await createProject('limited')
    t.equal((await call('POST', '/projects/limited/suspend', operator)).body.isActive, false)
    t.equal((await call('POST', '/projects/limited/resume', operator)).body.isActive, true)
    const limited = await call('POST', '/projects/limited/limits', operator, { messagesPerSecond: 5 })
    t.equal(limited.body.messagesPerSecond, 5)
  })

  await t.test('a new application is in the list of its project', async (t) => {
    await createProject('apps')
    const application = await call('POST', '/projects/apps/applications', operator, { name: 'Till' })
    t.match((await call('GET', '/projects/apps/applications', operator)).body, { applications: [application.body] })
  })

  await t.test('counters, registrations and projects can be read', async (t) => {
    const before = (await call('GET', '/projects', operator)).body.projects.length
    await createProject('read')
    t.match((await call('GET', '/projects/read/counters?from=2025-01-01', operator)).body, { total: { accepted: 1 } })
    t.same((await call('GET', '/projects/read/registrations', operator)).body, { registrations: [] })
    t.equal((await call('GET', '/projects', operator)).body.projects.length, before + 1)
  })

  await t.test('each change, also a refused one, is in the audit log of its project, newest first', async (t) => {
    const created = await createProject('audited')
    const added = await call('POST', '/projects/audited/keys', operator, {})
    await call('DELETE', `/projects/audited/keys/${created.body.keyId}`, operator)
    await call('DELETE', `/projects/audited/keys/${added.body.keyId}`, operator)
    await call('POST', '/projects/audited/suspend', operator)
    await call('POST', '/projects/audited/resume', operator)
    await call('POST', '/projects/audited/limits', operator, { messagesPerSecond: 5 })
    await call('POST', '/projects/audited/applications', operator, { name: 'Till' })
    const { body } = await call('GET', '/audit?project=audited', operator)
    t.same(
      body.entries.map(({ action, failed }: { action: string; failed?: string }) => [action, failed].join(' ')),
      [
        ...['application.create ', 'project.limit ', 'project.resume ', 'project.suspend '],
        ...['key.remove conflict', 'key.remove ', 'key.remove ', 'key.add ', 'project.create '],
      ],
      'a removal has two entries: intended, and then either done or failed',
    )
    t.match(body.entries[0], { actor: /^cred_/, project: 'audited', details: { name: 'Till' } })
    const addition = body.entries.find(({ action }: { action: string }) => action === 'key.add')
    t.match(addition.details, { alg: /^(RS|ES)256$/, keyId: /^[0-9a-f]{16}$/ }, 'the added key is named')
    t.notMatch(JSON.stringify(body), /bak_|PRIVATE/, 'no secret')
  })

  await t.test('the audit is read page by page, from the newest entry to the first', async (t) => {
    const first = await call('GET', '/audit?limit=2', operator)
    t.equal(first.body.entries.length, 2)
    const second = await call('GET', `/audit?limit=200&before=${first.body.next}`, operator)
    t.equal(second.body.entries.at(-1).action, 'credential.create')
    t.notMatch(JSON.stringify([first, second]), /bak_|PRIVATE/, 'no secret')
  })
})

t.test('the upload of a public key', async (t) => {
  const { api, credential, call, administration } = await startAdminApi(t)
  const developer = await credential('developer', api.project)
  const url = `/projects/${api.project}/public-keys`
  await t.test(
    'of ES256 or RS256 makes assertions of its private key valid, and a private key is refused',
    async (t) => {
      for (const [alg, pair] of [
        ['ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
        ['RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
      ] as const) {
        const pem = (key: KeyObject, type: 'spki' | 'pkcs8') => key.export({ format: 'pem', type }) as string
        const added = await call('POST', url, developer, { publicKey: pem(pair.publicKey, 'spki') })
        t.match(added, { statusCode: 201, body: { alg } })
        const { keyId } = added.body
        const privateKey = pem(pair.privateKey, 'pkcs8')
        const { clientId } = (await administration.project(root, api.project)).serviceAccount
        const assertion = await assertionOf(api, {
          key: { keyId, alg, privateKey },
          claims: { iss: clientId, sub: clientId },
        })
        t.equal((await askToken(api, { parameters: { client_assertion: assertion } })).status, 200, alg)
        isError(t, await call('POST', url, developer, { publicKey: privateKey }), 'invalid_request', 'the private key')
      }
    },
  )

  await t.test('of a weak key, a key of another type or text that is no key is refused', async (t) => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'pem', type: 'spki' })
    const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'pem', type: 'spki' })
    for (const publicKey of [
      '',
      'no key',
      '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n',
      weak,
      other,
      7,
    ]) {
      const refused = await call('POST', url, developer, { publicKey })
      isError(t, refused, 'invalid_request', String(publicKey).slice(0, 40))
      t.equal(refused.body.error?.details?.field ?? refused.body.details?.field, 'publicKey')
    }
  })

  await t.test('by a viewer is forbidden', async (t) => {
    const key = { publicKey: 'a key' }
    isError(t, await call('POST', url, await credential('viewer', api.project), key), 'forbidden')
  })
})

t.test('each role may do the actions of its table for its projects, and no other', async (t) => {
  const { credential, call, api } = await startAdminApi(t)
  const operator = await credential('operator')
  await call('POST', '/projects', operator, { id: 'other', alg: 'ES256' })
  const own = `/projects/${api.project}`
  const secrets = {
    viewer: await credential('viewer', api.project),
    developer: await credential('developer', api.project),
    'operator of the project': await credential('operator', api.project),
    operator,
  }
  const everyRole = Object.keys(secrets)
  const allowed: ['GET' | 'POST' | 'DELETE', string, string[]][] = [
    ['GET', own, everyRole],
    ['GET', `${own}/registrations`, everyRole],
    ['GET', `${own}/counters`, everyRole],
    ['GET', `/audit?project=${api.project}`, everyRole],
    ['POST', `${own}/applications`, ['developer', 'operator of the project', 'operator']],
    ['POST', `${own}/keys`, ['developer', 'operator of the project', 'operator']],
    ['POST', `${own}/resume`, ['operator of the project', 'operator']],
    ['GET', '/projects/other', ['operator']],
    ['GET', '/projects/other/registrations', ['operator']],
    ['POST', '/projects/other/applications', ['operator']],
    ['POST', '/projects', ['operator']],
    ['GET', '/fleets', ['operator']],
    ['POST', '/fleets', ['operator']],
    ['GET', '/credentials', ['operator']],
    ['GET', '/audit', ['operator']],
  ]
  for (const [method, path, roles] of allowed) {
    for (const [role, secret] of Object.entries(secrets)) {
      const hasAlgorithm = path === '/projects' || path.endsWith('/keys')
      const answer = await call(method, path, secret, method === 'POST' && hasAlgorithm ? { alg: 'ES256' } : undefined)
      const name = `${method} ${path} as ${role}`
      if (roles.includes(role)) t.ok(answer.statusCode < 300, `${name}: ${JSON.stringify(answer.body)}`)
      else isError(t, answer, 'forbidden', name)
    }
  }
  t.same((await call('GET', '/projects', secrets.viewer)).body.projects.length, 1, 'other projects are not listed')
})

t.test('without a project no role may show one, and only operators may do actions outside of projects', async (t) => {
  for (const role of ROLES) t.equal(mayDo({ name: 'x', role, projects: [] }, 'project.show', 'acme'), false, role)
  t.ok(Object.values(Actions).every(({ scope, roleMin }) => scope === 'project' || roleMin === 'operator'))
})

t.test('requests without a credential are missing_token, and with a wrong one bad_token', async (t) => {
  const { credential, call } = await startAdminApi(t)
  const operator = await credential('operator')
  const changed = operator.slice(0, -1) + (operator.endsWith('A') ? 'B' : 'A')
  isError(t, await call('GET', '/projects', null), 'missing_token')
  for (const secret of ['x', changed, operator.replace(/^bak_.{12}/, 'bak_000000000000')]) {
    isError(t, await call('GET', '/projects', secret), 'bad_token')
  }
})

t.test('invalid bodies, paths and queries are refused with the code of their mistake', async (t) => {
  const { credential, call } = await startAdminApi(t)
  const operator = await credential('operator')
  const wrong: [string, unknown, ErrorCode][] = [
    ['/projects', { id: 'a b' }, 'invalid_request'],
    ['/projects', { id: 5 }, 'invalid_request'],
    ['/projects', { alg: 'HS256' }, 'invalid_request'],
    ['/projects', { name: 'n'.repeat(129) }, 'invalid_request'],
    ['/projects', [], 'invalid_request'],
    ['/projects', 'x'.repeat(1_000_000), 'payload_too_large'],
    ['/projects/absent/keys', {}, 'unknown_project'],
    ['/projects/acme/limits', { messagesPerSecond: 0.5 }, 'invalid_request'],
    ['/projects/acme/limits', { messagesPerSecond: 'many' }, 'invalid_request'],
    ['/credentials', { name: 'x', role: 'king' }, 'invalid_request'],
    ['/credentials', { name: '', role: 'viewer' }, 'invalid_request'],
    ['/credentials', { name: 'x', role: 'viewer', projects: [] }, 'invalid_request'],
    ['/credentials', { name: 'x', role: 'viewer', projects: ['*.>'] }, 'invalid_request'],
    ['/credentials', { name: 'x', role: 'viewer', projects: 'acme' }, 'invalid_request'],
    ['/devices/nobody/revoke', {}, 'invalid_request'],
    ['/nothing', {}, 'not_found'],
  ]
  for (const [path, body, code] of wrong) isError(t, await call('POST', path, operator, body), code, `${path} ${code}`)
  for (const query of ['limit=0', 'limit=1000', 'limit=x', 'before=-1', 'limit=1&limit=2']) {
    isError(t, await call('GET', `/audit?${query}`, operator), 'invalid_request', query)
  }
})

t.test('a removed credential is refused at once, and its secret is never listed', async (t) => {
  const { credential, call } = await startAdminApi(t)
  const operator = await credential('operator')
  const created = await call('POST', '/credentials', operator, { name: 'Anna', role: 'viewer', projects: ['acme'] })
  t.match(created.body, { name: 'Anna', role: 'viewer', projects: ['acme'], secret: /^bak_/ })
  t.equal((await call('GET', '/projects', created.body.secret)).statusCode, 200)
  const listed = await call('GET', '/credentials', operator)
  t.notMatch(JSON.stringify(listed.body), /secret|hash/)
  t.equal((await call('DELETE', `/credentials/${created.body.credentialId}`, operator)).statusCode, 200)
  isError(t, await call('GET', '/projects', created.body.secret), 'bad_token')
  isError(t, await call('DELETE', `/credentials/${created.body.credentialId}`, operator), 'not_found')
  isError(t, await call('DELETE', '/credentials/x.y', operator), 'not_found')
})

t.test('a client that guesses credentials is rate limited', async (t) => {
  const { call } = await startAdminApi(t)
  for (let i = 0; i < 200; i++) {
    const answer = await call('GET', '/projects', 'bak_guess')
    if (answer.statusCode === 429) return isError(t, answer, 'rate_limited')
  }
  t.fail('200 guesses were answered without rate_limited')
})

t.test('a field or parameter that an operation does not have is refused by name, and changes nothing', async (t) => {
  const { credential, call, api } = await startAdminApi(t)
  const operator = await credential('operator')
  const own = `/projects/${api.project}`
  await call('POST', `${own}/limits`, operator, { messagesPerSecond: 7 })
  const refused: [string, unknown, string, string][] = [
    [`${own}/limits`, {}, 'messagesPerSecond', 'messagesPerSecond is required'],
    [
      `${own}/limits`,
      { messagesPerSecond: 0 },
      'messagesPerSecond',
      'messagesPerSecond must be an integer of at least 1, or null',
    ],
    [`${own}/limits`, { messagesPerSeconds: 5 }, 'messagesPerSecond', 'messagesPerSecond is required'],
    [
      `${own}/limits`,
      { messagesPerSecond: 5, burst: 1 },
      'burst',
      'there is no field burst; there are: messagesPerSecond',
    ],
    ['/projects', { ID: 'x' }, 'ID', 'there is no field ID; there are: id, name, alg'],
    ['/projects', { id: 'a b' }, 'id', 'id must be 1 to 64 of A-Z a-z 0-9 _ -'],
    [`${own}/suspend`, { until: 'tomorrow' }, 'until', 'there is no field until'],
    [`${own}/keys`, { alg: 'HS256' }, 'alg', 'alg must be one of RS256, ES256'],
    ['/credentials', { name: 'x', role: 'king' }, 'role', 'role must be one of viewer, developer, operator'],
    [
      '/credentials',
      { name: 'x', role: 'viewer', project: 'acme' },
      'project',
      'there is no field project; there are: name, role, projects',
    ],
  ]
  for (const [path, body, field, message] of refused) {
    const answer = await call('POST', path, operator, body)
    isError(t, answer, 'invalid_request', message)
    t.match(answer.body.error, { message, details: { field } }, `${path} ${JSON.stringify(body)}`)
  }
  const webhook = await call('PUT', `${own}/webhook`, operator, { url: 'https://example.com', kind: 'expired' })
  t.match(webhook.body.error, { message: 'there is no field kind; there are: url, kinds', details: { field: 'kind' } })
  t.match((await call('GET', own, operator)).body, { messagesPerSecond: 7, isActive: true }, 'the limit is unchanged')
  const parameter = await call('GET', '/audit?actor=x', operator)
  t.match(parameter.body.error, { message: /^there is no parameter actor/, details: { field: 'actor' } })
})

t.test('a limit of null removes the limit of a project', async (t) => {
  const { credential, call, api } = await startAdminApi(t)
  const operator = await credential('operator')
  const url = `/projects/${api.project}/limits`
  await call('POST', url, operator, { messagesPerSecond: 7 })
  t.match((await call('POST', url, operator, { messagesPerSecond: null })).body, { messagesPerSecond: null })
})

t.test('an id that cannot be a project is unknown and never becomes part of a NATS subject', async (t) => {
  const { credential, call } = await startAdminApi(t)
  const viewer = await credential('viewer')
  for (const id of ['x%0D%0APUB%20rx.one%202%0D%0Ahi%0D%0A', 'a%20b', '%2A', '%3E', 'x.y', 'x'.repeat(65)]) {
    for (const path of ['', '/counters', '/registrations', '/applications']) {
      isError(t, await call('GET', `/projects/${id}${path}`, viewer), 'unknown_project', `${id}${path}`)
    }
  }
})

t.test('a change outside of projects is not in the audit log of a project, even of one named "_"', async (t) => {
  const { credential, call } = await startAdminApi(t)
  const operator = await credential('operator')
  await call('POST', '/fleets', operator, { name: 'phones' })
  t.equal((await call('POST', '/projects', operator, { id: '_', alg: 'ES256' })).statusCode, 201)
  const { entries } = (await call('GET', '/audit?project=_', operator)).body
  t.same(
    entries.map(({ action }: { action: string }) => action),
    ['project.create'],
  )
})

t.test(
  'a developer at the daily limit of changes is refused further ones, and other credentials are not',
  async (t) => {
    const { administration, credential, call } = await startAdminApi(t, {}, { changesPerDay: 5 })
    await administration.createProject(root, { id: 'shop', alg: 'ES256' })
    await administration.createProject(root, { id: 'other', alg: 'ES256' })
    const [developer, other] = [await credential('developer', 'shop'), await credential('developer', 'other')]
    for (let n = 0; n < 5; n++) isError(t, await call('DELETE', '/projects/shop/keys/none', developer), 'not_found')
    isError(t, await call('DELETE', '/projects/shop/keys/none', developer), 'rate_limited')
    t.equal((await call('GET', '/projects/shop', developer)).statusCode, 200, 'a read is not limited')
    isError(t, await call('DELETE', '/projects/other/keys/none', other), 'not_found', 'another credential')
    const operator = await credential('operator')
    for (let n = 0; n < 6; n++) isError(t, await call('DELETE', '/projects/shop/keys/none', operator), 'not_found')
  },
)

t.test('failed sign-ins are in the audit log, with their networks and without the secret', async (t) => {
  const { administration, credential, call, stopSignIns } = await startAdminApi(t)
  const operator = await credential('operator')
  isError(t, await call('GET', '/projects', `${operator.slice(0, -1)}x`), 'bad_token')
  isError(t, await call('GET', '/projects', 'bak_nothing'), 'bad_token')
  await stopSignIns()
  const { entries } = await administration.auditPage(root, { limit: 10 })
  const [entry] = entries.filter(({ action }) => action === 'sign_in.failed')
  t.match(entry, { actor: 'core', project: null, details: { count: 2, networks: { '127.0.0.1': 2 } } })
  t.notMatch(JSON.stringify(entry), /bak_/)
})
