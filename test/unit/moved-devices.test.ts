/** A core passes on that a device moved to another instance, unless the table of sessions contradicts the notice. */
import t, { type Test } from 'tap'
import { decodeControlRequest, encodeMovedNotice } from '../../protocol/envelope.js'
import { Bucket, controlSubject, MOVED_SUBJECT } from '../../protocol/subjects.js'
import { MovedDevices } from '../../src/core/cluster/moved-devices.js'
import { createLogger } from '../../src/observe/log.js'
import { SessionTable } from '../../src/store/sessions.js'
import { deviceName } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const DEVICE = deviceName(1)
const OLD = { instance: 'one', worker: 'a' }
const NEW = { instance: 'two', worker: 'b' }

/**
 * Gives the control requests that reach the worker of OLD after a notice that the device has moved away from it.
 * `holder` has the newest session of the device, which is live or has ended.
 */
async function afterNotice(t: Test, holder: typeof OLD | null, live: boolean) {
  const world = new SimInstallation()
  const [core, transport] = [world.sim.brokerFor('core'), world.sim.brokerFor('transport')]
  const sessions = new SessionTable(core.table(Bucket.SESSIONS), core.clock)
  const moved = new MovedDevices(core.bus, sessions, createLogger('test', { level: 'silent', format: 'json' }))
  moved.start()
  t.teardown(() => moved.stop())
  if (holder) {
    const claim = await world.advanceUntil(sessions.claim(DEVICE, { ...holder, connection: 5 }))
    if (!claim.ok) throw new Error(claim.reason)
    if (!live) await world.advanceUntil(sessions.close(DEVICE, { ...holder, connection: 5 }, claim.revision))
  }
  const requests: unknown[] = []
  transport.bus.subscribe(controlSubject(OLD.instance, OLD.worker), ({ body }) => {
    requests.push(decodeControlRequest(body))
  })
  await world.sim.clock.advance(1_000)
  transport.bus.publish(MOVED_SUBJECT, encodeMovedNotice({ device: DEVICE, ...OLD, belowConnection: 5 }))
  transport.bus.publish(MOVED_SUBJECT, new Uint8Array([1, 2, 3]))
  await world.sim.clock.advance(1_000)
  return requests
}

t.test('the old worker is asked to close the session if another worker holds the device', async (t) => {
  const close = { kind: 'close', device: DEVICE, reason: 'replaced', belowConnection: 5 }
  t.same(await afterNotice(t, NEW, true), [close])
})

t.test('the old worker is asked to close the session if the session that followed has ended', async (t) => {
  t.equal((await afterNotice(t, OLD, false)).length, 1)
})

t.test('a worker that holds the device keeps its session after a false notice', async (t) => {
  t.same(await afterNotice(t, OLD, true), [])
})

t.test('a notice of a device without a session closes nothing', async (t) => {
  t.same(await afterNotice(t, null, true), [])
})
