import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { Bucket, deviceKey } from '../../../protocol/subjects.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

t.test('a device says HELLO, gets a push, acknowledges it and says BYE', async (t) => {
  const transport = await startTransport(t, { tombstoneDelayMs: 20 })
  const { worker, core, credential, deliver, report, sessions } = transport
  const device = newDevice()

  const raw = await RawDevice.open(worker.port)
  raw.hello({ credential: credential(device), connection: 1 })
  const welcome = await raw.until('WELCOME')
  t.ok(Math.abs(welcome.serverTimeMs - Date.now()) < 5_000)
  t.equal(welcome.keepaliveSeconds, 120)
  t.ok(welcome.ticket.length > 0)
  t.match(await raw.until('CAUGHT_UP'), { cursor: { sequence: 0, subscriptions: 0 } })
  t.match(await sessions.lookup(device, { authoritative: true }), { live: true, connection: 1 })

  deliver(device, 77n, { title: 'hi' })
  t.match(await raw.until('NOTIFY'), { id: 77n, title: 'hi' })
  raw.send({ type: 'ACK', ids: [77n] })
  t.match(await report(77n), { device, report: Report.ACKED })

  deliver(newDevice(), 78n)
  t.match(await report(78n), { report: Report.NOT_HERE }, 'another device is not here')

  raw.send({ type: 'BYE' })
  const look = () => sessions.lookup(device, { authoritative: true })
  const ended = new Promise<unknown>((resolve, reject) => {
    const seen = (session: Awaited<ReturnType<typeof look>>) => session?.live === false && resolve(session)
    const watched = core.table(Bucket.SESSIONS).watch(deviceKey(device), () => void look().then(seen, reject))
    watched.catch(reject)
  })
  t.match(await raw.closed, { code: 1000 })
  t.match(await ended, { live: false, connection: 1 }, 'a tombstone is left')
  await worker.stop()
})
