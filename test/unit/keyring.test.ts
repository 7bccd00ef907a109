import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  createKeyring,
  ensureKeyring,
  prepareKeyring,
  readKeyring,
  readTransportKeys,
} from '../../src/cli/keyring-file.js'
import { ENDLESS_KINDS, KEY_KINDS, Keyring, KeyringErrors } from '../../src/keyring.js'

t.test('init makes a file that its owner alone can read, and never replaces a file', async (t) => {
  const path = join(t.testdir(), 'deep', 'keyring.json')
  const made = createKeyring(path, 1_000)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const found = readKeyring(path)
  t.same(found.mark, made.mark)
  for (const kind of KEY_KINDS) t.same(found.keys(kind), made.keys(kind), kind)
  t.same(found.macKey('ticket').secret, made.macKey('ticket').secret)
  t.equal(found.macKey('ticket').secret.length, 32)
  t.throws(() => createKeyring(path, 2_000), { code: 'keyring_exists' })
  t.same(readKeyring(path).mark, made.mark, 'the file is as it was')
  t.same(ensureKeyring(path, 3_000).mark, made.mark, 'ensureKeyring() reads the keyring that is there')
  t.same(readdirSync(join(path, '..')), ['keyring.json'], 'no other file is left in the folder')
})

t.test('a missing file is refused by name, with the next move, and is not made', async (t) => {
  const path = join(t.testdir(), 'keyring.json')
  t.throws(() => readKeyring(path), {
    code: 'keyring_missing',
    message: new RegExp(`keyring.file names ${path}.*copy the keyring.*borealis keyring init.*\\(keyring_missing\\)`),
  })
  t.throws(() => readTransportKeys({ file: path, transportFile: '' }), { code: 'keyring_missing' })
  t.throws(() => readTransportKeys({ file: path, transportFile: `${path}.extract` }), {
    code: 'keyring_missing',
    message: /keyring.transportFile names .*borealis keyring extract FILE/,
  })
  t.notOk(existsSync(path))
})

t.test('a file that others can read or write is refused, with the command that helps', async (t) => {
  const path = join(t.testdir(), 'keyring.json')
  createKeyring(path, 1)
  for (const mode of [0o644, 0o604, 0o660, 0o602, 0o620]) {
    chmodSync(path, mode)
    const message = new RegExp(`mode 0${mode.toString(8)}.*chmod 600`)
    t.throws(() => readKeyring(path), { code: 'keyring_exposed', message }, mode.toString(8))
    t.throws(() => readTransportKeys({ file: '', transportFile: path }), { code: 'keyring_exposed' })
  }
  for (const mode of [0o600, 0o400]) {
    chmodSync(path, mode)
    t.ok(readKeyring(path), mode.toString(8))
  }
})

const isRoot = process.getuid?.() === 0

t.test('a group may read a file of root, as Kubernetes and systemd hand secrets out', { skip: !isRoot }, async (t) => {
  const path = join(t.testdir(), 'keyring.json')
  createKeyring(path, 1)
  chmodSync(path, 0o440)
  t.throws(() => readKeyring(path), { code: 'keyring_exposed' }, 'root itself needs no group')
  const asGroupMember = (run: () => void) => {
    // The real process, as another user who is in the group of the file.
    const { uid, gid } = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }
    const getuid = process.getuid
    process.setegid?.(12_345)
    process.seteuid?.(12_345)
    process.getuid = () => 12_345
    try {
      run()
    } finally {
      process.seteuid?.(uid)
      process.setegid?.(gid)
      process.getuid = getuid as () => number
    }
  }
  for (let folder = join(path, '..'); folder !== '/'; folder = join(folder, '..')) {
    if ((statSync(folder).mode & 0o001) === 0) return t.pass('the folder of the test is closed to others')
  }
  chownSync(path, 0, 12_345)
  asGroupMember(() => t.ok(readKeyring(path), 'the group can read'))
  chmodSync(path, 0o460)
  asGroupMember(() => t.throws(() => readKeyring(path), { code: 'keyring_exposed' }, 'the group can write'))
  chmodSync(path, 0o440)
  chownSync(path, 12_345, 12_345)
  asGroupMember(() => t.throws(() => readKeyring(path), { code: 'keyring_exposed' }, 'an own file needs no group'))
})

t.test(
  'a file that root writes belongs to the owner of the file before it, or else of the folder',
  { skip: !isRoot },
  async (t) => {
    const folder = join(t.testdir(), 'state')
    mkdirSync(folder)
    chownSync(folder, 12_345, 12_346)
    const path = join(folder, 'keyring.json')
    const keyring = createKeyring(path, 1)
    t.match(statSync(path), { uid: 12_345, gid: 12_346 })
    chownSync(folder, 0, 0)
    prepareKeyring(path, keyring).put()
    t.match(statSync(path), { uid: 12_345, gid: 12_346 })
  },
)

for (const kind of KEY_KINDS) {
  t.test(`the life of a ${kind} key`, async (t) => {
    const keyring = Keyring.generate(1)
    const states = () => Object.fromEntries(keyring.keys(kind).map(({ kid, state }) => [kid, state]))
    const isSigning = kind === 'accessToken' || kind === 'deviceToken'
    const activeKid = () => (isSigning ? keyring.signingKey(kind).kid : keyring.macKey(kind).kid)
    const first = activeKid()
    const second = keyring.add(kind, 2)

    await t.test('an added key is known, and the active one stays in use and cannot be retired', async (t) => {
      t.same(states(), { [first]: 'active', [second]: 'added' })
      t.equal(activeKid(), first)
      t.equal(keyring.has(kind, second), true)
      t.throws(() => keyring.retire(kind, first), { code: 'key_in_use' })
    })

    await t.test('a key that is activated replaces the active one', async (t) => {
      keyring.activate(kind, second, 3)
      t.same(states(), { [first]: 'replaced', [second]: 'active' })
      t.equal(activeKid(), second)
      t.equal(keyring.keys(kind).find(({ kid }) => kid === first)?.replacedAtMs, 3)
      t.throws(() => keyring.activate(kind, second, 4), { code: 'key_in_use' })
    })

    await t.test('an unknown key can be neither retired nor activated', async (t) => {
      t.throws(() => keyring.retire(kind, 'unknown'), { code: 'key_unknown' })
      t.throws(() => keyring.activate(kind, 'unknown', 4), { code: 'key_unknown' })
    })

    await t.test('a replaced key can be activated again', async (t) => {
      keyring.activate(kind, first, 5)
      t.same(states(), { [first]: 'active', [second]: 'replaced' })
    })

    const isEndless = ENDLESS_KINDS.includes(kind)
    await t.test(
      isEndless ? 'a replaced key can be retired and stays' : 'a replaced key that is retired is gone',
      async (t) => {
        keyring.retire(kind, second)
        t.same(states(), isEndless ? { [first]: 'active', [second]: 'retired' } : { [first]: 'active' })
      },
    )
    if (!isEndless) return

    await t.test('a retired key still verifies, is never activated again, and can be discarded', async (t) => {
      t.throws(() => keyring.activate(kind, second, 6), { code: 'key_in_use' })
      t.ok((kind === 'secrets' ? keyring.secretsKeys : keyring.registrationKeys).get(second))
      keyring.discard(kind, second)
      t.same(states(), { [first]: 'active' })
    })
  })
}

t.test('the id of a keyring stays, and its revision grows with each change', async (t) => {
  const keyring = Keyring.generate(1)
  const { id, revision } = keyring.mark
  const kid = keyring.add('ticket', 2)
  t.same(keyring.mark, { id, revision: revision + 1 })
  keyring.activate('ticket', kid, 3)
  t.same(keyring.mark, { id, revision: revision + 2 })
  t.same(Keyring.parse(keyring.serialize()).mark, keyring.mark)
  t.not(Keyring.generate(1).id, id)
})

t.test('a reload changes the keys of a running process at once, and refuses another or an older keyring', async (t) => {
  const keyring = Keyring.generate(1)
  const { registrationKeys } = keyring
  const older = keyring.copy()
  const newer = keyring.copy()
  const kid = newer.add('registration', 2)
  newer.activate('registration', kid, 2)
  let changes = 0
  const unlisten = keyring.onChange(() => changes++)
  keyring.use(newer)
  t.equal(registrationKeys.active.kid, kid)
  t.equal(registrationKeys.get(kid)?.kid, kid)
  t.equal(changes, 1)
  t.throws(() => keyring.use(older), { code: 'keyring_outdated' })
  t.throws(() => keyring.use(Keyring.generate(1)), { code: 'keyring_mismatch' })
  t.equal(registrationKeys.active.kid, kid, 'the keys are as they were')
  unlisten()
  keyring.use(newer)
  t.equal(changes, 1)
})

t.test('a new keyring replaces the file as a whole, or not at all', async (t) => {
  const path = join(t.testdir(), 'keyring.json')
  const keyring = createKeyring(path, 1)
  const text = readFileSync(path, 'utf8')
  keyring.add('ticket', 2)
  const prepared = prepareKeyring(path, keyring)
  t.equal(readFileSync(path, 'utf8'), text, 'not before put()')
  prepared.put()
  prepared.discard()
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(readKeyring(path).keys('ticket'), keyring.keys('ticket'))
  prepareKeyring(path, Keyring.generate(3)).discard()
  t.same(readKeyring(path).mark, keyring.mark)
  t.same(readdirSync(join(path, '..')), ['keyring.json'])
})

t.test(
  'the extract for transports has the ticket keys, and no private key, access token key or key of secrets',
  async (t) => {
    const keyring = Keyring.generate(1)
    keyring.activate('ticket', keyring.add('ticket', 2), 2)
    const extract = keyring.transportKeys()
    const text = JSON.stringify(extract)
    t.same(extract.keyring, keyring.mark)
    t.same(
      extract.tickets.map(({ kid }) => kid),
      keyring.keys('ticket').map(({ kid }) => kid),
    )
    t.equal(extract.tickets.at(-1)?.kid, keyring.macKey('ticket').kid, 'the active key stands last')
    t.notOk(text.includes('"d"'), 'no private key')
    for (const kind of ['registration', 'secrets'] as const) {
      t.notOk(text.includes(keyring.macKey(kind).secret.toString('base64url')), `no ${kind} key`)
    }
    for (const { kid } of keyring.keys('accessToken')) t.notOk(text.includes(kid), 'no access token key')
  },
)

t.test('a file that is no valid keyring is refused with an error that does not quote it', async (t) => {
  const good = Keyring.generate(1).serialize()
  const file = JSON.parse(good)
  const broken: Record<string, string> = {
    empty: ' \n',
    'not JSON': 'secret-text {',
    'another version': good.replace('"version": 1', '"version": 2'),
    'another id': JSON.stringify({ ...file, id: 'secret-text' }),
    'no keys of a kind': JSON.stringify({ ...file, ticket: [] }),
    'a short secret': JSON.stringify({ ...file, ticket: [{ kid: 'a', secret: 'secret-text' }] }),
    'a key that is none': JSON.stringify({ ...file, accessToken: [{ kid: 'a', privateJwk: {} }] }),
    'an unknown state': JSON.stringify({ ...file, ticket: [{ ...file.ticket[0], state: 'secret-text' }] }),
    'no active key': JSON.stringify({ ...file, ticket: [{ ...file.ticket[0], state: 'added' }] }),
    'two active keys': JSON.stringify({ ...file, ticket: [file.ticket[0], { ...file.ticket[0], kid: 'a' }] }),
    'a key twice': JSON.stringify({ ...file, ticket: [{ ...file.ticket[0], state: 'added' }, file.ticket[0]] }),
  }
  for (const [name, text] of Object.entries(broken)) {
    const path = join(t.testdir(), 'keyring')
    writeFileSync(path, text, { mode: 0o600 })
    const error = thrownBy(() => readKeyring(path))
    t.match(error, { name: 'KeyringError', code: 'keyring_invalid' }, name)
    t.notMatch(String(error?.stack), /secret-text/, 'the error does not quote the file')
    writeFileSync(path, text, { mode: 0o600 })
    t.throws(
      () => readTransportKeys({ file: '', transportFile: path }),
      { code: 'keyring_invalid' },
      `${name}: extract`,
    )
  }

  function thrownBy(run: () => void): Error | null {
    try {
      run()
    } catch (error) {
      return error as Error
    }
    return null
  }
})

t.test('a file that cannot be read is refused as unreadable, and no keyring is made', async (t) => {
  const folder = t.testdir({ keyring: {} })
  t.throws(() => readKeyring(join(folder, 'keyring')), { code: 'keyring_unreadable', message: /cannot be read/ })
  t.throws(() => createKeyring(join(folder, 'keyring', 'x'.repeat(300), 'k'), 1), { code: 'keyring_unreadable' })
})

t.test('a keyring of release 0.1', async (t) => {
  // As that release writes it: without id, revision, states and secrets; the last key signs.
  const { version, accessToken, deviceToken, registration, ticket } = JSON.parse(Keyring.generate(1).serialize())
  const another = JSON.parse(Keyring.generate(2).serialize()).ticket[0]
  const withoutState = ([key]: { state: unknown }[]) => [{ ...key, state: undefined }]
  const old = {
    ...{ version, accessToken: withoutState(accessToken), deviceToken: withoutState(deviceToken) },
    registration: withoutState(registration),
    ticket: [...withoutState(ticket), { ...another, state: undefined }],
  }
  const text = JSON.stringify(old)

  await t.test('is read: its last keys are active, and it has no key for secrets', async (t) => {
    const keyring = Keyring.parse(text)
    t.same(
      keyring.keys('ticket').map(({ kid, state }) => [kid, state]),
      [
        [ticket[0].kid, 'replaced'],
        [another.kid, 'active'],
      ],
    )
    t.equal(keyring.keys('ticket')[0]?.replacedAtMs, another.createdAtMs)
    t.same(keyring.keys('secrets'), [])
    t.equal(keyring.secretsKeys.active, null)
    t.equal(keyring.hasActive('secrets'), false)
  })

  await t.test('has one id in all copies, which stays after a change', async (t) => {
    const [one, two] = [Keyring.parse(text), Keyring.parse(text)]
    t.equal(one.id, two.id)
    const first = one.add('secrets', 5)
    t.equal(Keyring.parse(one.serialize()).id, two.id)
    t.equal(one.secretsKeys.active, null, 'added is not active')
    one.activate('secrets', first, 6)
    t.equal(Keyring.parse(one.serialize()).secretsKeys.active?.kid, first)
  })

  await t.test('that was changed by both releases is read as its last writer meant it', async (t) => {
    const file = JSON.parse(Keyring.generate(1).serialize())
    const pushed = Keyring.parse(
      JSON.stringify({ ...file, ticket: [file.ticket[0], { ...another, state: undefined }] }),
    )
    t.equal(pushed.macKey('ticket').kid, another.kid)
    t.same(
      pushed.keys('ticket').map(({ state }) => state),
      ['replaced', 'active'],
    )
  })
})

t.test('every error of keyrings stands in docs/operate/keys.md', async (t) => {
  const [, errors = ''] = readFileSync('docs/operate/keys.md', 'utf8').split('## Errors')
  const rows = [...errors.matchAll(/^\| `(\w+)` \| (.*?) \|/gm)].map(([, code = '', meaning]) => [code, meaning])
  t.same(Object.fromEntries(rows), KeyringErrors)
})
