/** A role under a lease whose start takes longer than the lease, on virtual time. */
import t from 'tap'
import { Bucket } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import { Lease, LeasedRole } from '../../src/core/cluster/lease.js'
import { SimBroker } from '../sim/broker.js'

const LEASE_MS = 3_000

/** Two processes that want one role. Each start takes `beginMs`. */
function twoProcesses(beginMs: number) {
  const sim = new SimBroker({ store: { split: 1 } })
  const begun: string[] = []
  const stopped: string[] = []
  const errors: unknown[] = []
  const process = (name: string) => {
    const client = sim.brokerFor(name)
    const { clock } = client
    const lease = new Lease('role', { table: client.table(Bucket.CORES), clock, holder: name, leaseMs: LEASE_MS })
    const begin = async () => {
      begun.push(name)
      await sleep(clock, beginMs)
      return { stop: async () => void stopped.push(name) }
    }
    return { lease, client, role: new LeasedRole(lease, clock, begin, (error) => errors.push(error)) }
  }
  return { sim, begun, stopped, errors, first: process('first'), second: process('second') }
}

t.test('a lease is renewed while its role begins, so that no other process begins it as well', async (t) => {
  const { sim, begun, errors, first, second } = twoProcesses(20 * LEASE_MS)
  const started = first.role.start()
  await sim.clock.advance(100)
  await sim.clock.advanceUntil(second.role.start())
  await sim.clock.advance(10 * LEASE_MS)
  t.same(begun, ['first'])
  t.ok(first.lease.isHeld)
  await sim.clock.advanceUntil(started)
  await sim.clock.advance(10 * LEASE_MS)
  t.same(begun, ['first'])
  await sim.clock.advanceUntil(Promise.all([second.role.stop(), first.role.stop()]))
  t.same(errors, [])
})

t.test('a role whose lease is lost while it begins is stopped once it has begun', async (t) => {
  const { sim, begun, stopped, first, second } = twoProcesses(20 * LEASE_MS)
  const started = first.role.start()
  await sim.clock.advance(100)
  await sim.clock.advanceUntil(second.role.start())
  first.client.freeze()
  await sim.clock.advance(5 * LEASE_MS)
  first.client.thaw()
  t.same(begun, ['first', 'second'])
  await sim.clock.advanceUntil(started)
  await sim.clock.advance(20 * LEASE_MS)
  t.same(stopped, ['first'])
  await sim.clock.advanceUntil(Promise.all([second.role.stop(), first.role.stop()]))
  t.same(stopped, ['first', 'second'])
})

t.test('a stop while the role begins waits for the start, and stops the role', async (t) => {
  const { sim, stopped, first } = twoProcesses(2 * LEASE_MS)
  const started = first.role.start()
  await sim.clock.advance(100)
  await sim.clock.advanceUntil(Promise.all([started, first.role.stop()]))
  t.same(stopped, ['first'])
  t.notOk(first.lease.isHeld)
})
