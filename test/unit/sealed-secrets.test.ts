import t from 'tap'
import { Keyring } from '../../src/keyring.js'
import { isStale, open, seal, sealedWith } from '../../src/store/sealed-secrets.js'

const PLACE = 'webhook:shop'
const SECRET = 'whsec_c2VjcmV0'

t.test('a sealed secret shows nothing, and opens at its place only', async (t) => {
  const { secretsKeys: keys } = Keyring.generate(1)
  const sealed = seal(keys, SECRET, PLACE)
  t.notMatch(sealed, /whsec|c2VjcmV0/)
  t.not(seal(keys, SECRET, PLACE), sealed, 'each seal has a nonce of its own')
  t.equal(sealedWith(sealed), keys.active?.kid)
  t.equal(open(keys, sealed, PLACE), SECRET)
  t.equal(open(keys, sealed, 'webhook:other'), null)
  t.equal(open(Keyring.generate(1).secretsKeys, sealed, PLACE), null, 'not with another keyring')
})

t.test('a sealed secret with any single byte changed does not open', async (t) => {
  const { secretsKeys: keys } = Keyring.generate(1)
  const sealed = seal(keys, SECRET, PLACE)
  const start = sealed.lastIndexOf(':') + 1
  const bytes = Buffer.from(sealed.slice(start), 'base64url')
  const opened: number[] = []
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    if (open(keys, sealed.slice(0, start) + changed.toString('base64url'), PLACE) !== null) opened.push(at)
  }
  t.same(opened, [])
  for (const text of [sealed.slice(0, start), `${sealed.slice(0, start)}AAAA`, 'sealed:', 'sealed:x:', 'sealed']) {
    if (text !== 'sealed') t.equal(open(keys, text, PLACE), null, text)
  }
})

t.test('clear text is read, and is stale as soon as there is a key', async (t) => {
  const keyring = Keyring.generate(1)
  const { secretsKeys: keys } = keyring
  t.equal(open(keys, SECRET, PLACE), SECRET)
  t.equal(isStale(keys, SECRET), true)
  const sealed = seal(keys, SECRET, PLACE)
  t.equal(isStale(keys, sealed), false)
  const none = { active: null, get: () => undefined }
  t.equal(seal(none, SECRET, PLACE), SECRET, 'a keyring of release 0.1 has no key for secrets')
  t.equal(isStale(none, SECRET), false)
  const old = keyring.activeKid('secrets')
  keyring.activate('secrets', keyring.add('secrets', 2), 2)
  t.equal(isStale(keys, sealed), true)
  keyring.retire('secrets', old)
  t.equal(open(keys, sealed, PLACE), SECRET, 'a retired key reads, as an old backup needs it')
  keyring.discard('secrets', old)
  t.equal(open(keys, sealed, PLACE), null)
})
