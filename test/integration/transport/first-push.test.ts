import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { Bucket, deviceKey } from '../../../protocol/subjects.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

t.test('the first connection of a device', async (t) => {
  const transport = await startTransport(t, { tombstoneDelayMs: 20 })
  const { worker, core, credential, deliver, report, sessions } = transport
  const device = newDevice()

  const raw = await RawDevice.open(worker.port)
  await t.test('HELLO is answered with WELCOME and CAUGHT_UP, and stored as a live session', async (t) => {
    raw.hello({ credential: credential(device), connection: 1 })
    const welcome = await raw.until('WELCOME')
    t.ok(Math.abs(welcome.serverTimeMs - Date.now()) < 5_000)
    t.equal(welcome.keepaliveSeconds, 120)
    t.ok(welcome.ticket.length > 0)
    t.match(await raw.until('CAUGHT_UP'), { cursor: { sequence: 0, subscriptions: 0 } })
    t.match(await sessions.lookup(device, { authoritative: true }), { live: true, connection: 1 })
  })

  await t.test('a push is sent as NOTIFY, and its ACK is reported to the router', async (t) => {
    deliver(device, 77n, { title: 'hi' })
    t.match(await raw.until('NOTIFY'), { id: 77n, title: 'hi' })
    raw.send({ type: 'ACK', ids: [77n] })
    t.match(await report(77n), { device, report: Report.ACKED })
  })

  await t.test('a push to another device is reported as not here', async (t) => {
    deliver(newDevice(), 78n)
    t.match(await report(78n), { report: Report.NOT_HERE })
  })

  await t.test('BYE closes the connection with 1000 and leaves the session as ended', async (t) => {
    raw.send({ type: 'BYE' })
    const lookup = () => sessions.lookup(device, { authoritative: true })
    const ended = new Promise<unknown>((resolve, reject) => {
      const check = (session: Awaited<ReturnType<typeof lookup>>) => session?.live === false && resolve(session)
      const watch = core.table(Bucket.SESSIONS).watch(deviceKey(device), () => void lookup().then(check, reject))
      watch.catch(reject)
    })
    t.match(await raw.closed, { code: 1000 })
    t.match(await ended, { live: false, connection: 1 })
  })
  await worker.stop()
})
