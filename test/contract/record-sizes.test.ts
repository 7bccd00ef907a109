/** The bounds of owed.ts hold for records with the longest names, as nats-server counts them. */
import t from 'tap'
import { EXPIRY_STREAM, eventsStream } from '../../protocol/subjects.js'
import { RECORD_BYTES } from '../../src/core/delivery/room/owed.js'
import type { Log } from '../../src/nats/broker.js'
import { EventLog } from '../../src/store/events.js'
import { ExpiryLog } from '../../src/store/expiry.js'
import { startNats } from '../support/nats.js'

const ID = (1n << 62n) - 1n
const AT_MS = Date.UTC(2090, 0, 1)
const PROJECT = 'p'.repeat(63)
const APPLICATION = `app_${'a'.repeat(20)}`
const DEVICE = `dev_${'d'.repeat(20)}`

t.test('no record that a message leaves is longer than its bound', async (t) => {
  const nats = await startNats(t, { store: { split: 1 } })
  const broker = await nats.brokerAs('core')
  const events = new EventLog(broker, 1, 'mjuohs17-zzzzzzz')
  const grows = async (log: Log, write: () => Promise<unknown>) => {
    const before = (await log.state()).bytes
    await write()
    return (await log.state()).bytes - before
  }
  const inEvents = (write: () => Promise<unknown>) => grows(broker.log(eventsStream(0)), write)
  const names = { project: PROJECT, application: APPLICATION, device: DEVICE }
  const message = {
    ...{ id: ID, parent: ID, ...names, registration: 2 ** 31, acceptedAtMs: AT_MS, expiresAtMs: AT_MS },
    ...{ collapseKey: '', frame: new Uint8Array() },
  }
  const sizes = {
    accepted: await inEvents(() => events.accepted(message)),
    final: await inEvents(() =>
      events.final(ID, { kind: 'collapsed', atMs: AT_MS, ...names, reason: 'not_acknowledged' }),
    ),
    group: await inEvents(() =>
      events.group(ID, { project: PROJECT, kind: 'topic', name: 'n'.repeat(128), atMs: AT_MS, expiresAtMs: AT_MS }),
    ),
  }
  for (const [kind, size] of Object.entries(sizes)) t.ok(size <= RECORD_BYTES.event, `${kind}: ${size} bytes`)
  for (const step of ['queued', 'late_ack'] as const) {
    const size = await inEvents(() => events.trace(ID, { step, atMs: AT_MS, reason: 'not_connected' }))
    t.ok(size <= RECORD_BYTES.trace, `${step}: ${size} bytes`)
  }
  const expiry = new ExpiryLog(broker, 1_000)
  const size = await grows(broker.log(EXPIRY_STREAM), () => expiry.addQueued(message, 2 ** 40, AT_MS))
  t.ok(size <= RECORD_BYTES.expiry, `expiry: ${size} bytes`)
})
