/** The audit log keeps its entries short and chained, and sums up failed sign-ins. */
import t from 'tap'
import { auditSubject, SIGN_INS_AUDIT_SUBJECT } from '../../protocol/subjects.js'
import { FailedSignIns } from '../../src/core/api/admin/failed-sign-ins.js'
import { createLogger } from '../../src/observe/log.js'
import { type AuditEntry, AuditLog } from '../../src/store/audit.js'
import { SimBroker } from '../sim/broker.js'

const ENTRY: AuditEntry = { atMs: 1, actor: 'cred_a', action: 'key.add', project: 'shop', details: { alg: 'ES256' } }

function open() {
  const sim = new SimBroker()
  const broker = sim.brokerFor('core')
  const audit = new AuditLog(broker)
  const run = <T>(work: Promise<T>): Promise<T> => sim.clock.advanceUntil(work)
  return { sim, broker, audit, run, log: broker.log('AUDIT') }
}

t.test('an unchanged log of several subjects and writers has no break', async (t) => {
  const { sim, audit, run } = open()
  const other = new AuditLog(sim.brokerFor('core-2'))
  for (let n = 0; n < 5; n++) {
    await run(Promise.all([audit.append({ ...ENTRY, atMs: n }), other.append({ ...ENTRY, atMs: -n })]))
    await run(audit.append({ ...ENTRY, project: null }))
  }
  t.same(await run(audit.verify()), { entries: 15, breaks: [] })
})

t.test('a deleted entry shows as a break', async (t) => {
  const { audit, run, log } = open()
  for (let n = 0; n < 4; n++) await run(audit.append({ ...ENTRY, atMs: n }))
  await run(log.delete(2))
  t.same(await run(audit.verify()), { entries: 3, breaks: [{ subject: 'audit.shop', sequence: 3 }] })
})

t.test('a forged entry shows as a break', async (t) => {
  const { audit, run, log } = open()
  await run(audit.append(ENTRY))
  await run(log.append(auditSubject('shop'), Buffer.from(JSON.stringify({ v: 1, after: 'x', ...ENTRY }))))
  await run(audit.append(ENTRY))
  t.same((await run(audit.verify())).breaks, [{ subject: 'audit.shop', sequence: 2 }])
})

t.test('deleted oldest entries are no break', async (t) => {
  const { audit, run, log } = open()
  for (let n = 0; n < 4; n++) await run(audit.append({ ...ENTRY, atMs: n }))
  for (const sequence of [1, 2]) await run(log.delete(sequence))
  t.same(await run(audit.verify()), { entries: 2, breaks: [] })
})

t.test('an entry is shortened to 4 KiB, and names the number of characters or bytes left out', async (t) => {
  const { audit, run, log } = open()
  await run(audit.append({ ...ENTRY, details: { name: 'x'.repeat(500_000), alg: 'ES256' } }))
  await run(
    audit.append({
      ...ENTRY,
      details: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, 'v'.repeat(50)])),
    }),
  )
  for (const sequence of [1, 2]) t.ok(((await run(log.at(sequence)))?.body.length ?? Number.POSITIVE_INFINITY) <= 4_096)
  const { entries } = await run(audit.page({ limit: 2 }))
  t.match(entries[1]?.details, { name: /^x{256}\.\.\. \(500000 characters\)$/, alg: 'ES256' })
  t.match(entries[0]?.details, { omitted: /^\d+ bytes$/ })
})

t.test('a flood of failed sign-ins makes one entry a minute, apart from the changes', async (t) => {
  const { sim, audit, run, log } = open()
  const signIns = new FailedSignIns(audit, sim.clock, createLogger('test', { level: 'silent', format: 'json' }))
  for (let n = 0; n < 1_000; n++) signIns.add(`10.0.0.${n % 40}`)
  await sim.clock.advance(61_000)
  t.equal((await run(log.state())).messages, 1)
  const record = await run(log.last(SIGN_INS_AUDIT_SUBJECT))
  const { action, details } = JSON.parse(Buffer.from(record?.body ?? []).toString())
  t.equal(action, 'sign_in.failed')
  t.equal(details.count, 1_000)
  t.equal(Object.keys(details.networks).length, 20)
  signIns.add('10.0.0.1')
  await run(signIns.stop())
  t.equal((await run(log.state())).messages, 2, 'a stop writes the sign-ins counted so far')
})
