/** The check of NATS permissions at the start of a process, on a real nats-server. */
import t from 'tap'
import { requirePermissions } from '../../src/nats/server/probe.js'
import { streamDefinitions } from '../../src/nats/server/streams.js'
import { startNats } from '../support/nats.js'

const as = (role: 'core' | 'transport', user: string) => ({ role, user, password: '' })

t.test('a process has the permissions of its own role, and the probe stores and deletes nothing', async (t) => {
  const nats = await startNats(t)
  const admin = await nats.brokerAs('admin')
  const { split } = nats.store
  await admin.table('PROJECTS').put('here', Buffer.from('before'))
  await admin.log('EXPIRY').append('expiry.1.0', Buffer.from('before'))
  const states = () =>
    Promise.all(
      streamDefinitions(nats.store).map(async ({ name }) => {
        const { messages, firstSequence, lastSequence } = await admin.log(name).state()
        return { name, messages, firstSequence, lastSequence }
      }),
    )
  const before = await states()
  for (const role of ['core', 'transport'] as const) {
    const broker = await nats.brokerAs(role)
    await requirePermissions(broker, as(role, role), split)
    t.same(broker.denied(), [], role)
  }
  t.same(await states(), before)
})

t.test('a core or transport under the user of an operator is refused with the subjects that it lacks', async (t) => {
  const nats = await startNats(t)
  const { split } = nats.store
  for (const [role, subject] of [
    ['core', 'publish to tx.probe.probe'],
    ['transport', 'publish to rx.probe'],
  ] as const) {
    const broker = await nats.brokerAs('admin')
    const refused = requirePermissions(broker, as(role, 'admin'), split)
    await t.rejects(refused, { code: 'unavailable', message: /the NATS user admin may not do what a (core|transport)/ })
    t.ok(broker.denied().includes(subject), `${broker.denied()}`)
    t.ok(broker.denied().some((one) => one.startsWith('subscribe to ')))
  }
})

t.test('a permission that a process lacks later is in denied(), and listeners are told once', async (t) => {
  const nats = await startNats(t)
  const broker = await nats.brokerAs('transport')
  const statuses: string[] = []
  broker.onStatus((status) => statuses.push(status))
  broker.bus.publish('audit.probe', Buffer.from('no'))
  broker.bus.publish('audit.probe', Buffer.from('no'))
  await broker.flush()
  t.same(broker.denied(), ['publish to audit.probe'])
  t.same(statuses, ['denied'])
})
