import t from 'tap'
import { generateServiceKey } from '../../src/core/tenants/auth/service-keys.js'

t.test('the event loop is not blocked while an RSA key is made', async (t) => {
  let turns = 0
  let isMade = false
  const turn = () => {
    turns++
    if (!isMade) setImmediate(turn)
  }
  setImmediate(turn)
  const key = await generateServiceKey('RS256', 7)
  isMade = true
  t.ok(turns > 1, `${turns} turns`)
  t.match(key.stored, { alg: 'RS256', createdAtMs: 7, publicJwk: { kty: 'RSA' } })
  t.match(key.private.privateKey, /BEGIN PRIVATE KEY/)
})
