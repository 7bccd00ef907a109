/** Short attacks with stolen NATS credentials. `npm run hostile -- --as publisher` makes longer ones. */
import t from 'tap'
import { ATTACKERS, attackNats } from './nats.js'

t.setTimeout(120_000)

for (const as of ATTACKERS) {
  t.test(`a stolen ${as} changes and hears nothing of others in 2,000 operations`, async (t) => {
    const result = await attackNats({ as, operations: 2_000, seed: 3 })
    t.same(result.firstEscapes, [])
    t.equal(result.escapes, 0)
    t.ok(result.refused > 0, `${result.refused} operations were refused`)
  })
}

t.test('the search finds the escapes of a user without an account of its own', async (t) => {
  const result = await attackNats({ as: 'transport', user: 'legacyTransport', operations: 1_000, seed: 3 })
  t.equal(result.ok, false)
  t.ok(result.escapes > 0)
})

t.test('the search finds a user that may do all', async (t) => {
  const result = await attackNats({ as: 'publisher', user: 'unrestricted', operations: 300, seed: 3 })
  t.ok(result.firstEscapes.some((found) => found.startsWith('heard ')))
})
