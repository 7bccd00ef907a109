import { readFileSync } from 'node:fs'
import { createRemoteJWKSet, jwtVerify, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { type OAuthErrorCode, OAuthErrors } from '../../protocol/oauth-errors.js'
import { generateServiceKey } from '../../src/core/tenants/auth/service-keys.js'
import { addServiceKey, removeServiceKey, setProjectActive } from '../../src/core/tenants/projects.js'
import { startTestApi, type TestApi, until } from '../support/api.js'
import { API, ask, isError, registrationIdOf } from '../support/http.js'
import { askToken, assertionOf, discovered, stockToken, type TokenAnswer, type TokenAsk } from '../support/oauth.js'

function isRefused(t: Test, answer: TokenAnswer, code: OAuthErrorCode, name: string): void {
  t.equal(answer.body.error, code, `${name}: ${answer.body.error_description}`)
  t.same(Object.keys(answer.body), ['error', 'error_description'], `${name}: the fields`)
  t.match(answer.headers, { 'cache-control': 'no-store' }, `${name}: not cached`)
}

const clientOf = (api: TestApi, issuer: string, key = api.serviceKey) => ({
  ...{ issuer, clientId: api.clientId, keyId: key.keyId, privateKey: key.privateKey, alg: key.alg },
})

t.test('a stock OAuth client', async (t) => {
  const api = await startTestApi(t)
  const { url } = await api.gateway.listen()
  const issuer = `${url}/auth/public`
  await t.test('discovers the token endpoint, as OAuth 2.0 and as OpenID Connect', async (t) => {
    for (const algorithm of ['oauth2', 'oidc'] as const) {
      t.match(await discovered(issuer, algorithm), { issuer, token_endpoint: `${url}/auth/public/oauth2/token` })
    }
  })

  await t.test('gets a token with an ES256 or an RS256 key, sends with it, and can verify it', async (t) => {
    const rsa = await addServiceKey(api.tenants, api.project, 'RS256')
    await until('the key is known', async () => {
      const project = await api.directory.project(api.project)
      return project?.serviceAccount.keys.length === 2
    })
    for (const key of [api.serviceKey, rsa]) {
      const parameters = { scope: 'openid offline message:update project:read', audience: 'borealis-push' }
      const token = await stockToken(clientOf(api, issuer, key), parameters)
      t.match(token, { token_type: 'bearer', expires_in: 3600, scope: parameters.scope })
      t.ok(Math.abs(Number(token.expires_at) - 3600 - Date.now() / 1000) < 60, 'in seconds since 1970')
      const send = { target: registrationIdOf(api), type: 'device', ttl: '1h' }
      const sent = await ask(api, {
        url: `${API}/${api.project}/messages`,
        body: send,
        token: token.access_token,
      })
      t.equal(sent.statusCode, 202, key.alg)
      const { payload } = await jwtVerify(
        token.access_token,
        createRemoteJWKSet(new URL(String((await discovered(issuer)).jwks_uri))),
      )
      t.match(payload, { aud: 'borealis-push', client_id: api.clientId, project: api.project })
    }
  })

  await t.test('gets a token with all scopes if it requests none', async (t) => {
    const unscoped = await stockToken(clientOf(api, issuer), {})
    t.equal(unscoped.scope, 'openid offline message:update project:read')
  })

  await t.test('cannot send with a token for project:read, and gets no token for an unknown scope', async (t) => {
    const readOnly = await stockToken(clientOf(api, issuer), { scope: 'project:read' })
    const refused = await ask(api, {
      url: `${API}/${api.project}/messages`,
      body: {},
      token: readOnly.access_token,
    })
    isError(t, refused, 'forbidden')
    const unknown = stockToken(clientOf(api, issuer), { scope: 'everything' })
    t.match(await unknown.catch((error: unknown) => error), { error: 'invalid_scope', status: 400 })
  })
})

t.test('the token endpoint', async (t) => {
  const api = await startTestApi(t)
  await t.test('accepts JSON and forms, with optional and with unknown parameters', async (t) => {
    for (const form of [false, true]) {
      const { status, body, headers } = await askToken(api, { form })
      t.equal(status, 200)
      t.same(Object.keys(body).sort(), ['access_token', 'expires_at', 'expires_in', 'scope', 'token_type'])
      t.equal(headers['cache-control'], 'no-store')
    }
    t.equal((await askToken(api, { parameters: { scope: undefined, audience: undefined, more: 1 } })).status, 200)
  })

  await t.test('refuses an invalid body or parameter with its OAuth error code and status', async (t) => {
    const json = 'application/json'
    const wrong: [string, OAuthErrorCode, number, TokenAsk][] = [
      ['not JSON', 'invalid_request', 400, { raw: { type: json, text: '{' } }],
      ['a list', 'invalid_request', 400, { raw: { type: json, text: '[]' } }],
      ['XML', 'invalid_request', 415, { raw: { type: 'text/xml', text: '<a/>' } }],
      ['Latin 1', 'invalid_request', 415, { raw: { type: `${json}; charset=latin1`, text: '{}' } }],
      ['10 MB', 'invalid_request', 413, { raw: { type: json, text: 'x'.repeat(10_000_000) } }],
      ['a number', 'invalid_request', 400, { parameters: { scope: 5 } }],
      [
        'twice',
        'invalid_request',
        400,
        { raw: { type: 'application/x-www-form-urlencoded', text: 'scope=a&scope=b' } },
      ],
      ['no grant', 'invalid_request', 400, { parameters: { grant_type: undefined } }],
      ['another grant', 'unsupported_grant_type', 400, { parameters: { grant_type: 'password' } }],
      ['no assertion', 'invalid_client', 401, { parameters: { client_assertion: undefined } }],
      ['another assertion type', 'invalid_request', 400, { parameters: { client_assertion_type: 'saml2-bearer' } }],
      ['an unknown scope', 'invalid_scope', 400, { parameters: { scope: 'project:read project:write' } }],
      ['no scope at all', 'invalid_scope', 400, { parameters: { scope: '  ' } }],
      ['a strange audience', 'invalid_target', 400, { parameters: { audience: 'borealis-push else' } }],
      ['another client id', 'invalid_client', 401, { parameters: { client_id: 'somebody' } }],
    ]
    for (const [name, code, status, ask] of wrong) {
      const answer = await askToken(api, ask)
      isRefused(t, answer, code, name)
      t.equal(answer.status, status, `${name}: status`)
    }
  })

  await t.test('names the scheme that a client tried instead of an assertion', async (t) => {
    const basic = await askToken(api, {
      parameters: { client_assertion: undefined },
      headers: { authorization: 'Basic YTpi' },
    })
    t.match(basic.headers, { 'www-authenticate': /^Basic / })
    isRefused(t, basic, 'invalid_client', 'a password')
  })
})

t.test('an assertion with any wrong part is invalid_client', async (t) => {
  const api = await startTestApi(t)
  const now = Math.floor(api.clock.now() / 1000)
  const stranger = (await generateServiceKey('ES256', 0)).private
  const rsa = (await generateServiceKey('RS256', 0)).private
  const hmac = new TextEncoder().encode('guess')
  const none = (await assertionOf(api)).split('.')
  const good = { iss: api.clientId, sub: api.clientId, aud: 'borealis-push', exp: now + 60, jti: 'j' }
  const cases: [string, string][] = [
    ['not a JWT', 'nonsense'],
    ['too long', 'x'.repeat(9_000)],
    ['signed with another key', await assertionOf(api, { key: { ...stranger, keyId: api.serviceKey.keyId } })],
    ['an unknown kid', await assertionOf(api, { header: { kid: 'other' } })],
    ['no kid', await assertionOf(api, { header: { kid: undefined } })],
    ['another alg than the key has', await assertionOf(api, { key: { ...rsa, keyId: api.serviceKey.keyId } })],
    ['alg none', `${Buffer.from('{"alg":"none"}').toString('base64url')}.${none[1]}.`],
    ['HMAC', await new SignJWT(good).setProtectedHeader({ alg: 'HS256', kid: api.serviceKey.keyId }).sign(hmac)],
    ['another typ', await assertionOf(api, { header: { typ: 'borealis-user+jwt' } })],
    ['changed on the way', `${none[0]}.${none[1]}x.${none[2]}`],
    ['another aud', await assertionOf(api, { claims: { aud: 'https://elsewhere/token' } })],
    ['no aud', await assertionOf(api, { claims: { aud: undefined } })],
    ['an unknown client', await assertionOf(api, { claims: { iss: 'client_x.acme', sub: 'client_x.acme' } })],
    ['an empty client', await assertionOf(api, { claims: { iss: '', sub: '' } })],
    ['sub of another', await assertionOf(api, { claims: { sub: 'somebody' } })],
    ['expired', await assertionOf(api, { claims: { exp: now - 61 } })],
    ['no exp', await assertionOf(api, { claims: { exp: undefined } })],
    ['not valid yet', await assertionOf(api, { claims: { nbf: now + 120 } })],
    ['issued in the future', await assertionOf(api, { claims: { iat: now + 120, exp: now + 180 } })],
    ['valid for too long', await assertionOf(api, { claims: { exp: now + 600 } })],
    ['valid for too long since it was issued', await assertionOf(api, { claims: { iat: now - 400, exp: now + 60 } })],
    ['no jti', await assertionOf(api, { claims: { jti: undefined } })],
    ['an empty jti', await assertionOf(api, { claims: { jti: '' } })],
    ['a jti that is too long', await assertionOf(api, { claims: { jti: 'j'.repeat(257) } })],
  ]
  for (const [name, client_assertion] of cases) {
    const answer = await askToken(api, { parameters: { client_assertion }, address: '10.0.0.2' })
    isRefused(t, answer, 'invalid_client', name)
    t.equal(answer.status, 401, `${name}: status`)
  }
})

t.test('an assertion with any of the documented audiences is accepted', async (t) => {
  const api = await startTestApi(t)
  for (const aud of [
    ['https://other', 'borealis-push'],
    `${api.publicUrl}/auth/public/oauth2/token`,
    `${api.publicUrl}/auth/public`,
    `${api.publicUrl}/auth/public/`,
  ]) {
    const client_assertion = await assertionOf(api, { claims: { aud }, header: { typ: 'JWT' } })
    t.equal((await askToken(api, { parameters: { client_assertion } })).status, 200, `aud ${aud}`)
  }
})

t.test('an assertion is accepted by one core once, and refused by all cores afterwards', async (t) => {
  const api = await startTestApi(t)
  const other = await api.another()
  const client_assertion = await assertionOf(api)
  const both = await Promise.all([
    askToken(api, { parameters: { client_assertion } }),
    askToken(other, { parameters: { client_assertion } }),
  ])
  t.same(both.map(({ status }) => status).sort(), [200, 401], 'two cores get it at once')
  for (const core of [api, other]) {
    isRefused(t, await askToken(core, { parameters: { client_assertion } }), 'invalid_client', 'a repeat')
  }
})

t.test('a forged assertion does not use up the jti of a valid one', async (t) => {
  const api = await startTestApi(t)
  const forged = { ...(await generateServiceKey('ES256', 0)).private, keyId: api.serviceKey.keyId }
  await askToken(api, {
    parameters: { client_assertion: await assertionOf(api, { key: forged, claims: { jti: 'x' } }) },
  })
  const valid = await assertionOf(api, { claims: { jti: 'x' } })
  t.equal((await askToken(api, { parameters: { client_assertion: valid } })).status, 200)
})

t.test(
  'while a service key is replaced, one key is valid at each moment; tokens of the removed key are refused',
  async (t) => {
    const api = await startTestApi(t)
    const url = `${API}/${api.project}`
    const first = (await askToken(api)).body.access_token
    await t.rejects(removeServiceKey(api.tenants, api.project, api.serviceKey.keyId), /last key/)
    const key = await addServiceKey(api.tenants, api.project, 'ES256')
    const withNew = async () => askToken(api, { parameters: { client_assertion: await assertionOf(api, { key }) } })
    await until('the new key is known', async () => (await withNew()).status === 200)
    const second = (await withNew()).body.access_token
    t.equal((await askToken(api)).status, 200, 'the old key')
    await removeServiceKey(api.tenants, api.project, api.serviceKey.keyId)
    await until('the old key is gone', async () => (await askToken(api)).status === 401)
    isError(t, await ask(api, { url, token: first }), 'bad_token', 'a token of the old key')
    t.equal((await ask(api, { url, token: second })).statusCode, 200)
  },
)

t.test('a suspended project gets tokens with the scope project:read only, and can only read itself', async (t) => {
  const api = await startTestApi(t)
  await setProjectActive(api.tenants, api.project, false)
  await until('the suspension is in effect', async () => !(await api.directory.project(api.project))?.isActive)
  const { status, body } = await askToken(api)
  t.equal(status, 200)
  t.equal(body.scope, 'project:read')
  const url = `${API}/${api.project}`
  t.match((await ask(api, { url, token: body.access_token })).body, { isActive: false })
  isRefused(
    t,
    await askToken(api, { parameters: { scope: 'message:update' } }),
    'unauthorized_client',
    'the scope to send',
  )
  const topic = { url: `${url}/topics/news/subscribe`, body: { registrationIds: [registrationIdOf(api)] } }
  isError(t, await ask(api, topic), 'project_inactive', 'with a token from before the suspension')
  isError(t, await ask(api, { url: `${url}/registrations` }), 'project_inactive', 'the list of registrations')
})

t.test('token requests of one address or IPv6 network beyond their rate are rate_limited', async (t) => {
  const api = await startTestApi(t, { auth: { tokenRequestsPerSecond: 1, tokenRequestsBurst: 3 } })
  const now = api.clock.now()
  api.clock.now = () => now
  for (let i = 0; i < 3; i++) t.equal((await askToken(api)).status, 200)
  const refused = await askToken(api)
  isRefused(t, refused, 'rate_limited', 'the fourth')
  t.equal(refused.status, 429)
  t.equal(refused.headers['retry-after'], '1')
  t.equal((await askToken(api, { address: '10.0.0.9' })).status, 200, 'another address')
  for (const host of ['::1', ':0:0:1::2', '::3:4']) {
    t.equal((await askToken(api, { address: `2001:db8${host}` })).status, 200)
  }
  isRefused(
    t,
    await askToken(api, { address: '2001:db8::99' }),
    'rate_limited',
    'another address of the same IPv6 network',
  )
})

t.test('without the store a token request is temporarily_unavailable, with Retry-After', async (t) => {
  const api = await startTestApi(t, { requestTimeoutMs: 300 })
  await api.nats.kill9()
  await until('the core has noticed the lost connection', () => !api.broker.connected())
  const refused = await askToken(api)
  isRefused(t, refused, 'temporarily_unavailable', 'without the store')
  t.equal(refused.status, 503)
  t.ok(refused.headers['retry-after'])
})

t.test('the issuer of tokens is the public URL, also if the core listens elsewhere', async (t) => {
  const publicUrl = 'https://push.example.com'
  const api = await startTestApi(t, { http: { publicUrl: `${publicUrl}/` } })
  const metadata = await ask(api, { url: '/.well-known/oauth-authorization-server/auth/public', token: null })
  t.match(metadata.body, { issuer: `${publicUrl}/auth/public`, jwks_uri: /^https:\/\/push.example.com\/auth/ })
  const token = (await askToken(api)).body.access_token
  const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString())
  t.equal(claims.iss, `${publicUrl}/auth/public`)
  t.equal((await ask(api, { url: `${API}/${api.project}`, token })).statusCode, 200)
  t.equal(
    (await ask(api, { url: `${API}/${api.project}` })).statusCode,
    200,
    'a token of borealis admin, with the issuer auth.issuer',
  )
})

t.test('each OAuth error code is expected by a test in this file', async (t) => {
  const text = readFileSync('test/integration/api-token.test.ts', 'utf8')
  const codes = Object.keys(OAuthErrors).filter((code) => code !== 'server_error')
  t.same(
    codes.filter((code) => !text.includes(`'${code}'`)),
    [],
  )
})

t.test('a fault of the service is answered as server_error, without its cause', async (t) => {
  const api = await startTestApi(t)
  api.directory.projectOfClient = () => Promise.reject(new Error('a fault'))
  const answer = await askToken(api)
  isRefused(t, answer, 'server_error', 'a fault of the service')
  t.notMatch(JSON.stringify(answer.body), /a fault"/)
})
