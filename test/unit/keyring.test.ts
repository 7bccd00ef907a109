import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KEY_KINDS, Keyring, KeyringError } from '../../src/keyring.js'

t.test('the first open makes a file that only its owner reads, and the next open finds the same keys', async (t) => {
  const path = join(t.testdir(), 'deep', 'keyring.json')
  const created = Keyring.open(path, 1_000)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const found = Keyring.open(path, 2_000)
  for (const kind of KEY_KINDS) t.same(found.kids(kind), created.kids(kind), kind)
  t.same(found.macKey('ticket').secret, created.macKey('ticket').secret)
  t.equal(found.macKey('ticket').secret.length, 32)
})

t.test('after a rotation the new key signs, and the old key stays until it is retired', async (t) => {
  for (const kind of KEY_KINDS) {
    const keyring = Keyring.generate(1)
    const [first] = keyring.kids(kind)
    const second = keyring.rotate(kind, 2)
    t.same(
      keyring.kids(kind).map((key) => key.kid),
      [first?.kid, second],
      kind,
    )
    const signing = kind === 'accessToken' || kind === 'deviceToken' ? keyring.signingKey(kind) : keyring.macKey(kind)
    t.equal(signing.kid, second)
    t.throws(() => keyring.retire(kind, second), KeyringError, 'the signing key cannot be retired')
    t.throws(() => keyring.retire(kind, 'unknown'), KeyringError)
    keyring.retire(kind, first?.kid ?? '')
    t.same(
      keyring.kids(kind).map((key) => key.kid),
      [second],
    )
  }
})

t.test('save() stores the rotated keys, and keeps the mode of the file', async (t) => {
  const path = join(t.testdir(), 'keyring.json')
  const keyring = Keyring.open(path, 1)
  keyring.rotate('ticket', 2)
  keyring.save(path)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(Keyring.open(path, 3).kids('ticket'), keyring.kids('ticket'))
})

t.test(
  'the extract for transports has the ticket keys, and no private, registration or access token key',
  async (t) => {
    const keyring = Keyring.generate(1)
    const extract = keyring.transportKeys()
    const text = JSON.stringify(extract)
    t.same(
      extract.tickets.map(({ kid }) => kid),
      keyring.kids('ticket').map(({ kid }) => kid),
    )
    t.notOk(text.includes('"d"'), 'no private key')
    t.notOk(text.includes(keyring.macKey('registration').secret.toString('base64url')), 'no registration key')
    for (const { kid } of keyring.kids('accessToken')) t.notOk(text.includes(kid), 'no access token key')
  },
)

t.test('a file that is no keyring is refused, and the error quotes nothing of it', async (t) => {
  const good = readFileSync(write(t.testdir()), 'utf8')
  const broken: Record<string, string> = {
    'not JSON': 'secret-text {',
    'another version': good.replace('"version": 1', '"version": 2'),
    'no keys of a kind': JSON.stringify({ ...JSON.parse(good), ticket: [] }),
    'a short secret': JSON.stringify({ ...JSON.parse(good), ticket: [{ kid: 'a', secret: 'secret-text' }] }),
    'a key that is none': JSON.stringify({ ...JSON.parse(good), accessToken: [{ kid: 'a', privateJwk: {} }] }),
  }
  for (const [name, text] of Object.entries(broken)) {
    const path = join(t.testdir({ keyring: text }), 'keyring')
    try {
      Keyring.open(path, 1)
      t.fail(`${name} was accepted`)
    } catch (error) {
      t.ok(error instanceof KeyringError, name)
      t.notMatch(String((error as Error).stack), /secret-text/, 'the error quotes nothing of the file')
    }
  }

  function write(folder: string): string {
    const path = join(folder, 'keyring.json')
    Keyring.open(path, 1)
    chmodSync(path, 0o600)
    return path
  }
})

t.test('a file that cannot be read is refused, and not replaced by a new keyring', async (t) => {
  const folder = t.testdir({ keyring: {} })
  t.throws(() => Keyring.open(join(folder, 'keyring'), 1), { name: 'KeyringError', message: /cannot read/ })
  writeFileSync(join(folder, 'file'), '')
  t.throws(() => Keyring.open(join(folder, 'file'), 1), KeyringError)
})
