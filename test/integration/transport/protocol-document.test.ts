/** Statements of PROTOCOL.md about the server, checked with a bare device against real parts. */
import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { frameToJson } from '../../../protocol/json-form.js'
import { startLive } from '../../device/live.js'
import { readSessions } from '../../protocol/sessions.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

t.setTimeout(60_000)

t.test(
  '"A session in ten frames": a real service sends frames of the same types and fields in the same order',
  async (t) => {
    const live = await startLive(t)
    const enrolled = await fetch(`${live.coreUrl}/device/v1/enrol`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ enrolmentKey: live.enrolmentKey }),
    })
    t.equal(enrolled.status, 201)
    const { token } = (await enrolled.json()) as { token: string }
    const device = await RawDevice.open(live.worker.port)
    device.hello({ credential: { kind: 'token', token } })
    await device.until('CAUGHT_UP')
    device.send({ type: 'REGISTER', request: 1, application: live.application, userToken: '' })
    const { registrationId, registration } = await device.until('REGISTERED')
    await device.until('CAUGHT_UP')
    const messageId = await live.send('device', registrationId, 'Mail')
    const notify = await device.until('NOTIFY')
    t.equal(String(notify.id), messageId)
    t.equal(notify.registration, registration)
    device.send({ type: 'ACK', ids: [notify.id] })
    device.send({ type: 'PING' })
    await device.until('PONG')

    const [session] = readSessions()
    const documented =
      session?.steps.flatMap((step) => ('close' in step || step.direction === 'device' ? [] : step.frames)) ?? []
    t.strictSame(
      device.received.map(({ type }) => type),
      documented.map(({ type }) => type),
    )
    const fieldsOf = (frames: object[]) => frames.map((frame) => Object.keys(frame))
    t.strictSame(fieldsOf(device.received.map(frameToJson) as object[]), fieldsOf(documented))
    const versionsOf = (frames: object[]) => JSON.stringify(frames).match(/"subscriptions":\d+/g)
    t.strictSame(
      versionsOf(device.received.map(frameToJson) as object[]),
      versionsOf(documented),
      'the same versions of the subscriptions',
    )
    device.cut()
  },
)

t.test('"An ACK counts on the connection on which the NOTIFY came": on a later connection it is ignored', async (t) => {
  const { worker, credential, deliver, report, reports } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1 })
  deliver(device, 7n)
  await first.until('NOTIFY')
  first.cut()
  t.match(await report(7n), { report: Report.CLOSED })

  const second = await RawDevice.connected(worker.port, { credential: credential(device), connection: 2 })
  second.send({ type: 'ACK', ids: [7n] })
  deliver(device, 8n)
  await second.until('NOTIFY')
  second.send({ type: 'ACK', ids: [8n] })
  t.match(await report(8n), { report: Report.ACKED })
  t.strictSame(
    reports.filter(({ id }) => id === 7n).map(({ report }) => report),
    [Report.CLOSED],
    'the router gets no ACK for the message, and will send it again',
  )
  second.cut()
})

t.test(
  '"an ERROR of that kind ... no close follows": after an ERROR to the request 0 the connection goes on',
  async (t) => {
    const { worker, credential } = await startTransport(t)
    const device = await RawDevice.connected(worker.port, { credential: credential(newDevice()) })
    // This test has no core, so the request ends with an ERROR.
    device.send({ type: 'REGISTER', request: 0, application: 'app_0123456789abcdefghij', userToken: '' })
    t.match(await device.until('ERROR'), { request: 0, code: 'unavailable' })
    device.send({ type: 'PING' })
    t.ok(await device.until('PONG'))
    device.cut()
  },
)

t.test(
  '"beyond the end of the log": such a cursor gets GAP LOG_RESET, the messages of the log and another cursor',
  async (t) => {
    const live = await startLive(t)
    const phone = await live.device('phone')
    phone.connect()
    await phone.register(live.application)
    const older = await live.send('application', live.application, 'before the other device was enrolled')
    const enrolled = await fetch(`${live.coreUrl}/device/v1/enrol`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ enrolmentKey: live.enrolmentKey }),
    })
    const { token } = (await enrolled.json()) as { token: string }
    const credential = { kind: 'token', token } as const
    const first = await RawDevice.connected(live.worker.port, { credential })
    first.send({ type: 'REGISTER', request: 1, application: live.application, userToken: '' })
    const { subscriptions } = await first.until('REGISTERED')
    const { cursor } = await first.until('CAUGHT_UP')
    t.notOk(
      first.received.some(({ type }) => type === 'NOTIFY_GROUP'),
      'a new member of the group gets no older message',
    )
    first.cut()
    await first.closed

    const second = await RawDevice.open(live.worker.port)
    const falsified = { incarnation: cursor?.incarnation ?? 0n, sequence: 1_000_000, subscriptions }
    second.hello({ credential, connection: 2, cursor: falsified })
    t.match(await second.until('GAP'), { reason: 'log_reset', count: 0, mark: null })
    t.equal(String((await second.until('NOTIFY_GROUP')).id), older, 'also a message from before the enrolment')
    t.strictSame((await second.until('CAUGHT_UP')).cursor, cursor)
    second.cut()
  },
)
