import { createPublicKey } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { createKeyring, readKeyring } from '../../src/cli/keyring-file.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { mintUserToken } from '../../src/core/tenants/auth/service-keys.js'
import { AccessTokenVerifier, verifyUserToken } from '../../src/core/tenants/auth/tokens.js'
import { type AdminCli, adminCli, type Output } from '../support/admin.js'
import { startNats, type TestNats } from '../support/nats.js'

interface Setup extends AdminCli {
  nats: TestNats
  keyringFile: string
  folder: string
}

async function setUp(t: Test): Promise<Setup> {
  const nats = await startNats(t)
  const folder = t.testdir()
  const keyringFile = join(folder, 'keyring.json')
  createKeyring(keyringFile, Date.now())
  const { url, user, password } = nats.settingsAs('admin')
  const cli = adminCli(folder, { nats: { url, user, password }, keyring: { file: keyringFile } })
  return { nats, folder, keyringFile, ...cli }
}

t.test('borealis admin, for a new project', async (t) => {
  const { json, text, keyringFile } = await setUp(t)
  const project = await json('project', 'create', '--id', 'acme', '--name', 'Acme Ltd', '--alg', 'ES256')

  await t.test('project create prints the private key once; project show does not', async (t) => {
    t.match(project, { projectId: 'acme', name: 'Acme Ltd', isActive: true, alg: 'ES256', keyIds: [project.keyId] })
    t.match(project.privateKey, /^-----BEGIN PRIVATE KEY-----/)
    const shown = await json('project', 'show', 'acme')
    t.match(shown, { projectId: 'acme', clientId: project.clientId })
    t.notOk('privateKey' in shown)
    t.match(await text('project', 'show', 'acme'), /^projectId: acme\nname: Acme Ltd\nisActive: true\n/)
  })

  await t.test('application create adds to the list of its project only', async (t) => {
    const application = await json('application', 'create', '--project', 'acme', '--name', 'Mail')
    t.match(application, { applicationId: /^app_[a-z0-9]{20}$/, projectId: 'acme', name: 'Mail' })
    t.same(await json('application', 'list', '--project', 'acme'), [application])
    t.same(await json('application', 'list', '--project', 'other'), [])
  })

  await t.test('fleet create prints the enrolment key once; fleet list does not', async (t) => {
    const { enrolmentKey, ...fleet } = await json('fleet', 'create')
    t.match(enrolmentKey, /^bek_/)
    t.same(await json('fleet', 'list'), [fleet])
  })

  await t.test('token mint makes a token that the verifier accepts', async (t) => {
    const { accessToken } = await json('token', 'mint', '--project', 'acme', '--scope', 'project:read')
    const options = { issuer: 'borealis', audience: 'borealis-push', verifiedTokensMax: 10 }
    const verifier = new AccessTokenVerifier(readKeyring(keyringFile), options)
    t.match(await verifier.verify(accessToken, Date.now()), { project: 'acme', clientId: project.clientId })
  })

  await t.test('project add-key makes an RSA key that signs user tokens; remove-key removes the old key', async (t) => {
    const key = await json('project', 'add-key', 'acme')
    t.equal(key.alg, 'RS256')
    const claims = { user: 'anna', application: 'app_x', device: 'dev_x', nowMs: Date.now(), lifetimeSeconds: 60 }
    const token = await mintUserToken(key, claims)
    const publicJwk = createPublicKey(key.privateKey).export({ format: 'jwk' })
    const keys = [{ kid: key.keyId, alg: 'RS256' as const, publicJwk, createdAtMs: 0 }]
    const record = { serviceAccount: { keys } } as Parameters<typeof verifyUserToken>[1]['project']
    t.equal(await verifyUserToken(token, { ...claims, project: record }), 'anna')
    const { keyIds } = await json('project', 'remove-key', 'acme', project.keyId)
    t.same(keyIds, [key.keyId])
  })

  await t.test('project suspend and resume answer the new state', async (t) => {
    t.equal((await json('project', 'suspend', 'acme')).isActive, false)
    t.equal((await json('project', 'resume', 'acme')).isActive, true)
    t.equal((await json('project', 'list')).length, 1)
  })
})

t.test('the option --out of borealis admin', async (t) => {
  const { json, text, folder } = await setUp(t)
  const file = join(folder, 'settings.yaml')
  const second = join(folder, 'second.yaml')

  await t.test('writes the settings file with mode 0600 and keeps its private key out of the output', async (t) => {
    writeFileSync(file, 'an older file', { mode: 0o644 })
    const shown = await text('project', 'create', '--id', 'acme', '--alg', 'ES256', '--out', file)
    t.match(shown, `file: ${file}\n`)
    t.notMatch(shown, /PRIVATE KEY/)
    t.equal(statSync(file).mode & 0o777, 0o600, 'also over a file with another mode')
    t.match(parse(readFileSync(file, 'utf8')), { push_notification_system: { project_id: 'acme' } })
  })

  await t.test('of add-key writes the new key', async (t) => {
    const added = await json('project', 'add-key', 'acme', '--out', second)
    t.match(added, { projectId: 'acme', file: second })
    t.notMatch(JSON.stringify(added), /PRIVATE KEY/)
    t.match(readFileSync(second, 'utf8'), added.keyId)
  })

  await t.test('of a refused command leaves the file as it was', async (t) => {
    const before = readFileSync(second, 'utf8')
    await t.rejects(text('project', 'create', '--id', 'acme', '--out', second), { message: /already/ })
    t.equal(readFileSync(second, 'utf8'), before)
    t.same(
      readdirSync(folder).filter((name) => name.endsWith('.tmp')),
      [],
    )
  })

  await t.test('in a folder that does not exist fails, and creates no project', async (t) => {
    const absent = join(folder, 'absent', 'settings.yaml')
    await t.rejects(text('project', 'create', '--id', 'other', '--out', absent), { message: /ENOENT/, exitCode: 2 })
    t.same((await json('project', 'list')).length, 1)
  })
})

t.test('device revoke is stored; revoking an invalid device or an unknown registration is refused', async (t) => {
  const { nats, json, text, keyringFile } = await setUp(t)
  const device = 'dev_0123456789abcdefghij'
  t.same(await json('device', 'revoke', device), { device, revoked: true })
  const revoked = (await nats.brokerAs('admin')).table('REVOKED')
  t.ok(await revoked.get(`device.${device}`))
  await t.rejects(text('device', 'revoke', 'x'), { message: /invalid_request/ })

  const key = readKeyring(keyringFile).macKey('registration')
  const address = { project: 'acme', application: 'app_x', device, registration: 1 }
  await t.rejects(text('registration', 'revoke', encodeRegistrationId(key, address)), {
    message: /unknown_registration/,
  })
  await t.rejects(text('registration', 'revoke', 'forged'), { message: /unknown_registration/ })
})

t.test('borealis keyring', async (t) => {
  const { text, keyring, folder, keyringFile } = await setUp(t)
  const status = await keyring('status')
  let kid = ''

  await t.test('status names the keyring, and one active key of each kind without its secret', async (t) => {
    t.match(status, { keyring: readKeyring(keyringFile).id, installation: null, processes: [] })
    t.same(
      status.keys.map(({ kind, state }: Output) => `${kind} ${state}`),
      ['accessToken active', 'deviceToken active', 'registration active', 'ticket active', 'secrets active'],
    )
    t.notMatch(JSON.stringify(status), /private|"d"|secret":/i)
  })

  await t.test('add makes a key that does not sign before activate', async (t) => {
    kid = (await keyring('add', 'ticket')).kid
    t.not(readKeyring(keyringFile).macKey('ticket').kid, kid)
    await keyring('activate', 'ticket', kid)
    t.equal(readKeyring(keyringFile).macKey('ticket').kid, kid)
  })

  await t.test('retire removes an old key, and refuses the one that signs', async (t) => {
    const old = status.keys.find((key: Output) => key.kind === 'ticket').kid
    await keyring('retire', 'ticket', old, '--void', '--yes')
    await t.rejects(keyring('retire', 'ticket', kid), { name: 'CommandError', message: /key_in_use/ })
  })

  await t.test('refuses an unknown kind of key, and init over a keyring', async (t) => {
    await t.rejects(keyring('add', 'door'), { message: /not a kind of key/, exitCode: 2 })
    await t.rejects(keyring('init'), { message: /keyring_exists/ })
  })

  const extract = join(folder, 'transport.json')
  await t.test('extract writes a file with mode 0600', async (t) => {
    await keyring('extract', extract)
    t.equal(statSync(extract).mode & 0o777, 0o600)
  })

  await t.test('is named by the former commands of borealis admin', async (t) => {
    for (const words of [['show'], ['rotate', 'ticket'], ['retire', 'ticket', kid], ['extract', extract]]) {
      await t.rejects(text('keyring', ...words), { message: /is `borealis keyring` now/, exitCode: 2 }, words.join(' '))
    }
  })
})

t.test('a command that finds no keyring names the file and the next move, and makes none', async (t) => {
  const { text, keyring, keyringFile } = await setUp(t)
  await text('project', 'create', '--id', 'acme', '--alg', 'ES256')
  rmSync(keyringFile)
  const expected = {
    name: 'CommandError',
    message: /keyring\.json.*copy the keyring.*borealis keyring init.*keyring_missing/,
  }
  await t.rejects(text('token', 'mint', '--project', 'acme'), expected)
  await t.rejects(text('registration', 'revoke', 'x'), expected)
  for (const words of [['status'], ['add', 'ticket'], ['extract', `${keyringFile}.extract`]]) {
    await t.rejects(keyring(...words), expected, words.join(' '))
  }
  t.notOk(existsSync(keyringFile))
})

t.test(
  'a wrong command of borealis admin fails with a message that names the mistake, and creates nothing',
  async (t) => {
    const { text, json } = await setUp(t)
    for (const [words, message] of [
      [['project', 'show', 'absent'], /unknown_project/],
      [['project', 'create', '--id', 'a b'], /1 to 64/],
      [['application', 'create', '--project', 'absent'], /unknown_project/],
      [['token', 'mint', '--project', 'absent'], /unknown_project/],
      [['fleet', 'create', '--name', ''], /1 to 128/],
    ] as const) {
      await t.rejects(text(...words), { name: 'CommandError', message }, words.join(' '))
    }
    await text('project', 'create', '--id', 'acme', '--alg', 'ES256')
    await t.rejects(text('project', 'create', '--id', 'acme'), { message: /already/ })
    t.notMatch(await text('fleet', 'create'), /undefined/)
    t.equal((await json('project', 'list')).length, 1, 'no refused command made a project')
  },
)

t.test('borealis admin, for an existing project', async (t) => {
  const { json, text } = await setUp(t)
  const settings = parse(await text('project', 'create', '--id', 'acme', '--alg', 'ES256')).push_notification_system
  let secret = ''

  await t.test('project create prints a settings file for the app server', async (t) => {
    t.match(settings, {
      project_id: 'acme',
      push_public_address: 'http://127.0.0.1:8080',
      api_url: 'http://127.0.0.1:8080/push/public/api/v1/',
      client_id: /^client_[a-z0-9]{20}\.acme$/,
      scopes: 'openid offline message:update project:read',
      audience: 'borealis-push',
      token_url: 'http://127.0.0.1:8080/auth/public/oauth2/token',
      private_key: /^-----BEGIN PRIVATE KEY-----\n/,
      key_id: /^[0-9a-f]{16}$/,
    })
  })

  await t.test('project remove-key refuses to remove the last key', async (t) => {
    const second = parse(await text('project', 'add-key', 'acme')).push_notification_system
    t.equal(second.client_id, settings.client_id)
    await text('project', 'remove-key', 'acme', settings.key_id)
    const last = 'this is the last key of the project: add another one first (conflict)'
    await t.rejects(text('project', 'remove-key', 'acme', second.key_id), { message: last, cause: undefined })
  })

  await t.test('a refused command prints its reason once', async (t) => {
    const taken = { message: 'a project acme exists already (conflict)', cause: undefined }
    await t.rejects(text('project', 'create', '--id', 'acme', '--alg', 'ES256'), taken)
  })

  await t.test('project limit takes a whole number or "default"', async (t) => {
    t.equal((await json('project', 'limit', 'acme', '--messages-per-second', '7')).messagesPerSecond, 7)
    t.equal((await json('project', 'limit', 'acme', '--messages-per-second', 'default')).messagesPerSecond, null)
    await t.rejects(text('project', 'limit', 'acme', '--messages-per-second', 'all'), { message: /whole number/ })
  })

  await t.test('credential create prints the secret once; list and remove do not', async (t) => {
    const created = await json(
      'credential',
      'create',
      '--name',
      'Anna',
      '--role',
      'developer',
      '--project',
      'acme,shop',
    )
    t.match(created, { role: 'developer', projects: ['acme', 'shop'], secret: /^bak_/ })
    const { secret: printed, ...credential } = created
    secret = printed
    t.same(await json('credential', 'list'), [credential])
    t.same(await json('credential', 'remove', credential.credentialId), {
      credentialId: credential.credentialId,
      removed: true,
    })
    await t.rejects(text('credential', 'create', '--name', 'x', '--role', 'king'), { message: /role must be one of/ })
  })

  await t.test('audit show lists all changes, newest first, by project and page, without secrets', async (t) => {
    const { entries } = await json('audit', 'show')
    t.match(entries[0], { actor: /^cli:/, action: 'credential.remove', project: null })
    const ofProject = await text('audit', 'show', '--project', 'acme', '--limit', '1')
    t.match(ofProject, /project\.limit {2}acme/)
    const before = /--before ([0-9]+)/.exec(ofProject)?.[1] ?? ''
    t.match(await text('audit', 'show', '--project', 'acme', '--before', before), /project\.create {2}acme/)
    await t.rejects(text('audit', 'show', '--limit', 'x'), { message: /not a whole number/ })
    t.match(secret, /^bak_/)
    t.notMatch(JSON.stringify(entries), secret)
  })
})
