import t from 'tap'
import {
  decodeRegistrationId,
  encodeRegistrationId,
  type RegistrationAddress,
} from '../../src/core/domain/registration-id.js'
import { Keyring } from '../../src/keyring.js'

const keyring = Keyring.generate(0)
const key = keyring.macKey('registration')
const keys = keyring.registrationKeys

const address: RegistrationAddress = {
  project: 'acme',
  application: 'app_0123456789abcdefghij',
  device: 'dev_0123456789abcdefghij',
  registration: 7,
}
const id = encodeRegistrationId(key, address)

t.test('a registrationId decodes to its address, and the same registration has the same id', async (t) => {
  t.same(decodeRegistrationId(keys, id), address)
  t.match(id, /^[A-Za-z0-9_-]{1,200}$/, 'needs no escaping in a URL, a header or JSON')
  t.equal(encodeRegistrationId(key, address), id)
})

t.test('a registrationId with any single bit changed is refused', async (t) => {
  const bytes = Buffer.from(id, 'base64url')
  const accepted: number[] = []
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const forged = Buffer.from(bytes)
    forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    if (decodeRegistrationId(keys, forged.toString('base64url'))) accepted.push(bit)
  }
  t.same(accepted, [])
})

t.test('a registrationId that is cut short, too long or spelled differently is refused', async (t) => {
  for (let length = 0; length < id.length; length++) {
    if (decodeRegistrationId(keys, id.slice(0, length))) t.fail(`accepted, cut to ${length} characters`)
  }
  for (const text of [`${id}=`, `${id}A`, ` ${id}`, `${id}\n`, id.repeat(20), 'ü', '\0']) {
    t.equal(decodeRegistrationId(keys, text), null, JSON.stringify(text.slice(-12)))
  }
})

t.test('a registrationId of another service is refused', async (t) => {
  t.equal(decodeRegistrationId(Keyring.generate(0).registrationKeys, id), null)
})

t.test('after a rotation old and new registrationIds are valid, until the old key is removed', async (t) => {
  const ring = Keyring.generate(0)
  const before = encodeRegistrationId(ring.macKey('registration'), address)
  const oldKid = ring.macKey('registration').kid
  ring.activate('registration', ring.add('registration', 1), 1)
  const after = encodeRegistrationId(ring.macKey('registration'), address)
  t.not(after, before)
  t.same(decodeRegistrationId(ring.registrationKeys, before), address)
  t.same(decodeRegistrationId(ring.registrationKeys, after), address)
  ring.discard('registration', oldKid)
  t.equal(decodeRegistrationId(ring.registrationKeys, before), null, 'the key is removed')
})
