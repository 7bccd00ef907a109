import t from 'tap'
import { encodeFrame } from '../../../protocol/encode.js'
import { DEVICE_FRAME_BYTES_MAX, EMPTY_MESSAGE, FrameType } from '../../../protocol/frame.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { Keyring } from '../../../src/keyring.js'
import { RawDevice } from '../../support/raw-device.js'
import { ISSUER, newDevice, startTransport } from '../../support/transport.js'

/** The end of a connection: the code and connection number of its ERROR frame, and the close code. */
async function endOf(raw: RawDevice): Promise<{ error: string; code: number; connection: number }> {
  const { code } = await raw.closed
  const error = raw.received.find((frame) => frame.type === 'ERROR')
  return { error: error?.code ?? '', code, connection: error?.connection ?? 0 }
}

t.test('the first frames of a connection', async (t) => {
  const transport = await startTransport(t, { helloTimeoutMs: 1_000 })
  const { worker, credential, keyring, tokenOf } = transport
  const open = () => RawDevice.open(worker.port)

  t.test('a first frame that is not HELLO closes with unexpected_frame', async (t) => {
    const raw = await open()
    raw.send({ type: 'PING' })
    t.match(await endOf(raw), { error: 'unexpected_frame', code: 4002 })
  })

  t.test('an empty message before HELLO closes with protocol_error', async (t) => {
    const raw = await open()
    raw.bytes(EMPTY_MESSAGE)
    t.match(await endOf(raw), { error: 'protocol_error', code: 4000 })
  })

  t.test('an empty message between HELLO and WELCOME closes with unexpected_frame', async (t) => {
    const raw = await open()
    raw.hello({ credential: credential(newDevice()) })
    raw.bytes(EMPTY_MESSAGE)
    t.match(await endOf(raw), { error: 'unexpected_frame', code: 4002 })
  })

  t.test('after WELCOME an empty message is answered with an empty message, and PING with PONG', async (t) => {
    const device = await RawDevice.connected(worker.port, { credential: credential(newDevice()) })
    const before = device.messages.length
    device.bytes(EMPTY_MESSAGE)
    device.send({ type: 'PING' })
    device.bytes(EMPTY_MESSAGE)
    await device.until('PONG')
    device.send({ type: 'PING' })
    await device.until('PONG')
    t.same(
      device.messages.slice(before).map(({ length }) => length),
      [0, 2, 0, 2],
    )
    device.cut()
  })

  t.test('a frame between HELLO and WELCOME closes with unexpected_frame', async (t) => {
    const raw = await open()
    raw.ws.send(
      Buffer.concat([
        encodeFrame({
          type: 'HELLO',
          version: 1,
          credential: credential(newDevice()),
          connection: 1,
          client: null,
          cursor: null,
          gap: null,
        }),
        encodeFrame({ type: 'ACK', ids: [1n] }),
      ]),
    )
    t.match(await endOf(raw), { error: 'unexpected_frame', code: 4002 })
  })

  t.test('an unknown frame is skipped', async (t) => {
    const raw = await open()
    raw.bytes(Uint8Array.of(3, 0x7f, 1, 2))
    raw.hello({ credential: credential(newDevice()) })
    t.ok(await raw.until('WELCOME'))
    raw.ws.close()
  })

  t.test('more unknown frames than allowed in a second close with rate_limited', async (t) => {
    const raw = await open()
    raw.bytes(Buffer.alloc(4_000, Uint8Array.of(1, 0x7f)))
    t.match(await endOf(raw), { error: 'rate_limited', code: 4032 })
  })

  t.test('bytes that are not a frame close with protocol_error', async (t) => {
    const raw = await open()
    raw.bytes(Uint8Array.of(0))
    t.match(await endOf(raw), { error: 'protocol_error', code: 4000 })
  })

  t.test('a text message closes with protocol_error', async (t) => {
    const raw = await open()
    raw.ws.send('HELLO')
    t.match(await endOf(raw), { error: 'protocol_error', code: 4000 })
  })

  t.test('a frame that declares too great a length closes with frame_too_large', async (t) => {
    const raw = await open()
    raw.bytes(Uint8Array.of(0x81, 0x80, 0x02, FrameType.HELLO))
    t.match(await endOf(raw), { error: 'frame_too_large', code: 4001 })
  })

  t.test('a message that is too long closes with frame_too_large', async (t) => {
    const raw = await open()
    raw.bytes(Buffer.alloc(DEVICE_FRAME_BYTES_MAX + 100, 1))
    t.match(await endOf(raw), { error: 'frame_too_large', code: 4001 })
  })

  t.test('a message of ten times the greatest length is cut off by uWebSockets.js with 1006', async (t) => {
    const raw = await open()
    raw.bytes(Buffer.alloc(10 * DEVICE_FRAME_BYTES_MAX))
    t.match(await endOf(raw), { code: 1006 })
  })

  t.test('HELLO of another version closes with unsupported_version', async (t) => {
    const raw = await open()
    raw.hello({ version: 2, credential: credential(newDevice()) })
    t.match(await endOf(raw), { error: 'unsupported_version', code: 4004 })
  })

  t.test('HELLO without a credential closes with bad_token', async (t) => {
    const raw = await open()
    raw.hello({})
    t.match(await endOf(raw), { error: 'bad_token', code: 4010 })
  })

  t.test('HELLO with the connection number 0 closes with protocol_error', async (t) => {
    const raw = await open()
    raw.hello({ credential: credential(newDevice()), connection: 0 })
    t.match(await endOf(raw), { code: 4000 })
  })

  t.test('a token that is garbage, of a foreign key or issuer, or expired is refused', async (t) => {
    const device = newDevice()
    const key = keyring.signingKey('deviceToken')
    const nowMs = Date.now()
    const request = { issuer: ISSUER, device, fleet: 'f', nowMs, lifetimeMs: 60_000 }
    const foreign = Keyring.generate(nowMs).signingKey('deviceToken')
    const cases = [
      ['garbage', 'garbage', 'bad_token', 4010],
      ['foreign key', mintDeviceToken(foreign, request).token, 'bad_token', 4010],
      ['foreign issuer', mintDeviceToken(key, { ...request, issuer: 'https://elsewhere' }).token, 'bad_token', 4010],
      ['expired', mintDeviceToken(key, { ...request, nowMs: nowMs - 3_600_000 }).token, 'token_expired', 4011],
    ] as const
    for (const [name, token, error, code] of cases) {
      const raw = await open()
      raw.hello({ credential: { kind: 'token', token } })
      t.match(await endOf(raw), { error, code }, name)
    }
  })

  t.test('a forged ticket is refused, and an intact one resumes the session', async (t) => {
    const device = newDevice()
    const first = await RawDevice.open(worker.port)
    first.hello({ credential: credential(device), connection: 1 })
    const { ticket } = await first.until('WELCOME')
    first.cut()
    await first.closed

    const forged = Uint8Array.from(ticket)
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1
    const swapped = Uint8Array.from(ticket)
    swapped[40] = (swapped[40] ?? 0) ^ 1
    for (const bad of [forged, swapped, new Uint8Array(300), Uint8Array.of(1)]) {
      const raw = await open()
      raw.hello({ credential: { kind: 'ticket', ticket: bad }, connection: 2 })
      t.match(await endOf(raw), { error: 'bad_ticket', code: 4012 })
    }
    const resumed = await open()
    resumed.hello({ credential: { kind: 'ticket', ticket }, connection: 2 })
    t.ok((await resumed.until('WELCOME')).ticket.length > 0)
    t.match(await transport.sessions.lookup(device, { authoritative: true }), { connection: 2, live: true })
    resumed.ws.close()
  })

  t.test('a connection without HELLO closes with hello_timeout', async (t) => {
    t.match(await endOf(await open()), { error: 'hello_timeout', code: 4003 })
  })

  t.test('a second HELLO closes with unexpected_frame', async (t) => {
    const device = newDevice()
    const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
    raw.hello({ credential: { kind: 'token', token: tokenOf(device) }, connection: 2 })
    t.match(await endOf(raw), { error: 'unexpected_frame', code: 4002 })
  })
})

t.test('a request to a path other than the device path is answered 404', async (t) => {
  const { worker } = await startTransport(t)
  const answer = await fetch(`http://127.0.0.1:${worker.port}/v1/other`)
  t.equal(answer.status, 404)
})
