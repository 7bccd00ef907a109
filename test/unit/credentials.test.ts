/** The core refuses a removed credential at once. */
import t from 'tap'
import { Administration } from '../../src/core/tenants/administration.js'
import { findActor } from '../../src/core/tenants/auth/credentials.js'
import type { Actor } from '../../src/core/tenants/auth/roles.js'
import { SimBroker } from '../sim/broker.js'

const root: Actor = { name: 'cli:test', role: 'operator', projects: '*' }

t.test('a removed credential is refused while a lagging replica still has it', async (t) => {
  const sim = new SimBroker()
  const { clock } = sim
  const administration = new Administration(sim.brokerFor('admin'), clock)
  const { credentials } = administration
  const created = clock.advanceUntil(administration.createCredential(root, { name: 'x', role: 'viewer' }))
  const { credential, secret } = await created
  await clock.advance(10_000)
  t.match(await clock.advanceUntil(findActor(credentials, secret)), { name: credential.id, role: 'viewer' })
  await clock.advanceUntil(administration.removeCredential(root, credential.id))
  sim.faults.staleRead = 1
  sim.faults.staleMs = [5_000, 6_000]
  t.ok(await clock.advanceUntil(credentials.get(credential.id)), 'the lagging replica still has the credential')
  await t.rejects(clock.advanceUntil(findActor(credentials, secret)), { code: 'bad_token' })
})
