import { importJWK, SignJWT } from 'jose'
import t from 'tap'
import { DeviceTokenVerifier, mintDeviceToken } from '../../src/device-token.js'
import { Keyring } from '../../src/keyring.js'

const NOW = Date.UTC(2025, 0, 1)
const HOUR = 3_600_000
const device = 'dev_0123456789abcdefghij'
const request = { issuer: 'here', device, fleet: 'fleet_0123456789ab', nowMs: NOW, lifetimeMs: HOUR }
const keyring = Keyring.generate(NOW)
const key = keyring.signingKey('deviceToken')
const verifier = new DeviceTokenVerifier(keyring.transportKeys().deviceTokens, 'here')

t.test('a device token is valid until 60 s after its expiry, plus the grace', async (t) => {
  const { token, expiresAtMs } = mintDeviceToken(key, request)
  t.equal(expiresAtMs, NOW + HOUR)
  const claims = { device, fleet: request.fleet, issuedAtMs: NOW, expiresAtMs }
  t.same(verifier.verify(token, NOW), { ok: true, claims })
  t.equal(verifier.verify(token, expiresAtMs + 59_000).ok, true, 'within the tolerance for clocks that differ')
  t.same(verifier.verify(token, expiresAtMs + 60_000), { ok: false, reason: 'token_expired' })
  t.equal(verifier.verify(token, expiresAtMs + 2 * HOUR, 2 * HOUR).ok, true, 'within the grace')
  t.equal(verifier.verify(token, expiresAtMs + 2 * HOUR + 60_000, 2 * HOUR).ok, false, 'beyond the grace')
})

t.test('after a rotation, tokens of the old key and of the new key are valid', async (t) => {
  const ring = Keyring.generate(NOW)
  const before = mintDeviceToken(ring.signingKey('deviceToken'), request).token
  ring.activate('deviceToken', ring.add('deviceToken', NOW), NOW)
  const after = mintDeviceToken(ring.signingKey('deviceToken'), request).token
  const both = new DeviceTokenVerifier(ring.transportKeys().deviceTokens, 'here')
  t.equal(both.verify(before, NOW).ok, true)
  t.equal(both.verify(after, NOW).ok, true)
})

t.test('a token that is damaged, forged or made for another purpose is refused as bad_token', async (t) => {
  const good = mintDeviceToken(key, request).token
  const [header = '', claims = '', signature = ''] = good.split('.')
  const privateKey = await importJWK(key.privateJwk, 'ES256')
  const sign = (head: object, body: object) =>
    new SignJWT({ iss: 'here', aud: 'borealis-device', sub: device, exp: NOW / 1000 + 60, ...body })
      .setProtectedHeader({ alg: 'ES256', typ: 'borealis-device+jwt', kid: key.kid, ...head })
      .sign(privateKey)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const bad: Record<string, string> = {
    empty: '',
    'no JWT': 'x.y.z',
    'two parts': `${header}.${claims}`,
    'four parts': `${good}.x`,
    'no signature': `${header}.${claims}.`,
    'changed claims': `${header}.${part({ sub: 'dev_bbbbbbbbbbbbbbbbbbbb' })}.${signature}`,
    'alg none': `${part({ alg: 'none', typ: 'borealis-device+jwt', kid: key.kid })}.${claims}.${signature}`,
    'alg HS256': `${part({ alg: 'HS256', typ: 'borealis-device+jwt', kid: key.kid })}.${claims}.${signature}`,
    'an access token': await sign({ typ: 'at+jwt' }, {}),
    'an unknown key': await sign({ kid: 'unknown' }, {}),
    'another issuer': await sign({}, { iss: 'there' }),
    'another audience': await sign({}, { aud: 'borealis-push' }),
    'no device': await sign({}, { sub: 'somebody' }),
    'no expiry': await sign({}, { exp: undefined }),
    'of another service': mintDeviceToken(Keyring.generate(NOW).signingKey('deviceToken'), request).token,
    'too long': `${good}${'A'.repeat(4_096)}`,
    'claims that are no object': `${header}.${Buffer.from('7').toString('base64url')}.${signature}`,
  }
  for (const [name, token] of Object.entries(bad)) {
    t.same(verifier.verify(token, NOW), { ok: false, reason: 'bad_token' }, name)
  }
  t.equal(verifier.verify(await sign({}, {}), NOW).ok, true, 'without a fault, the same signer makes a valid token')
})
