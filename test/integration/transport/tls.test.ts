import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { Close } from '../../../protocol/close-codes.js'
import type { BorealisClient } from '../../../src/device/index.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { Networks } from '../../../src/networks.js'
import { Listener } from '../../../src/transport/socket/listener.js'
import { checkTlsFiles } from '../../../src/transport/socket/tls-files.js'
import { freePort } from '../../../src/transport/supervisor/supervisor.js'
import { until } from '../../support/api.js'
import { run, startInstance } from '../../support/instance.js'
import { makeCertificate, needs } from '../../support/programs.js'
import { RawDevice } from '../../support/raw-device.js'
import { ISSUER, newDevice } from '../../support/transport.js'

/** Resolves with the common name of the certificate that the port presents. */
async function certificateOf(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return String(subject.CN)
}

t.test('an instance with a TLS certificate', needs('openssl'), async (t) => {
  const folder = t.testdir()
  const { certificate, key, pem } = makeCertificate(folder, 'first.test')
  const instance = await startInstance(t, {
    BOREALIS_TRANSPORT_TLS_CERTIFICATE: certificate,
    BOREALIS_TRANSPORT_TLS_KEY: key,
  })
  const { port } = instance
  const url = `wss://127.0.0.1:${port}`
  const closes: string[] = []
  const device = async (ca: string): Promise<BorealisClient> => {
    const client = await instance.device({ url, ca })
    client.on('closed', ({ name }) => closes.push(name))
    return client
  }
  const early = await Promise.all(Array.from({ length: 8 }, () => device(pem)))
  t.equal(await certificateOf(port), 'first.test')

  await t.test('keeps its certificate if a reload finds a wrong key', async (t) => {
    writeFileSync(key, 'no key')
    t.match(await instance.admin('POST', '/reload'), { status: 422, body: { error: /not a certificate and its key/ } })
    t.equal(await certificateOf(port), 'first.test')
  })

  await t.test('presents a new certificate on each worker after SIGHUP, and disconnects no device', async (t) => {
    const second = makeCertificate(folder, 'second.test')
    instance.process.kill('SIGHUP')
    await until('the files are read again', async () =>
      instance.log.some(({ message }) => /were read again/.test(String(message))),
    )
    for (let i = 0; i < 10; i++) t.equal(await certificateOf(port), 'second.test')
    const late = await device(second.pem)
    const workers = (await instance.status()).workers
    t.equal(
      workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0),
      early.length + 1,
    )
    t.same(closes, [], 'no open connection was closed')
    t.ok([...early, late].every(({ state }) => state === 'live'))
  })
})

t.test('a reload of TLS files that succeeds or fails leaves one listener', needs('openssl'), async (t) => {
  const { certificate, key } = makeCertificate(t.testdir(), 'first.test')
  const listening = async (requestedPort: number) => {
    const listener = new Listener({
      ...{ host: '127.0.0.1', port: requestedPort, tlsCertificate: certificate, tlsKey: key, proxyProtocolFrom: [] },
      backpressureBytesMax: 65_536,
      onError: (_, error) => t.fail(String(error)),
    })
    t.teardown(() => listener.close())
    const port = await listener.listen({
      ...{ admit: () => null, distrusted: () => {}, opened: () => {} },
      ...{ message: () => {}, drained: () => {}, closed: () => {} },
    })
    // Each group message would be published to each of these.
    const { apps } = listener as unknown as { apps: ReadonlySet<unknown> }
    return { listener, port, apps }
  }
  const shared = await listening(await freePort('127.0.0.1', 0))
  for (let reload = 0; reload < 3; reload++) await shared.listener.reloadTls()
  t.equal(shared.apps.size, 1)
  t.equal(await certificateOf(shared.port), 'first.test')

  // uWebSockets.js shares a port only if the port was given by number.
  const alone = await listening(0)
  await t.rejects(alone.listener.reloadTls(), { message: /cannot listen/ })
  t.equal(alone.apps.size, 1)
  t.equal(await certificateOf(alone.port), 'first.test', 'the old listener still serves')
})

t.test('a token of a new key is refused before a reload, and accepted after it', async (t) => {
  const instance = await startInstance(t, { BOREALIS_TRANSPORT_WORKERS: '1' })
  const { keyring, environment, port } = instance
  keyring.activate('deviceToken', keyring.add('deviceToken', Date.now()), Date.now())
  const device = newDevice()
  const claims = { issuer: ISSUER, device, fleet: 'fleet', nowMs: Date.now(), lifetimeMs: 3_600_000 }
  const { token } = mintDeviceToken(keyring.signingKey('deviceToken'), claims)
  const before = await RawDevice.open(port)
  before.hello({ credential: { kind: 'token', token } })
  t.match(await before.closed, { code: Close.bad_token.code }, 'before the reload')
  writeFileSync(environment.BOREALIS_KEYRING_TRANSPORT_FILE ?? '', JSON.stringify(keyring.transportKeys()))
  t.match(await run(['reload'], environment), { code: 0 })
  const after = await RawDevice.connected(port, { credential: { kind: 'token', token } })
  after.cut()
})

t.test('TLS files that are missing or do not belong together are refused', needs('openssl'), async (t) => {
  const folder = t.testdir({ one: {}, two: {} })
  const one = makeCertificate(join(folder, 'one'), 'one.test')
  const two = makeCertificate(join(folder, 'two'), 'two.test')
  checkTlsFiles({ tlsCertificate: '', tlsKey: '' })
  checkTlsFiles({ tlsCertificate: one.certificate, tlsKey: one.key })
  for (const tlsKey of [two.key, `${one.key}.none`, one.certificate, '']) {
    t.throws(() => checkTlsFiles({ tlsCertificate: one.certificate, tlsKey }), /TLS: /, tlsKey)
  }
})

t.test('Networks matches its addresses and networks, and refuses anything else at its construction', async (t) => {
  const trusted = new Networks(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'])
  for (const address of ['10.1.2.3', '192.0.2.7', 'fd00::1', '0000:0000:0000:0000:0000:ffff:0a01:0203']) {
    t.ok(trusted.has(address), address)
  }
  for (const address of ['11.0.0.1', '192.0.2.8', 'fe80::1', '', newDevice()]) t.notOk(trusted.has(address), address)
  for (const network of ['10.0.0.0/33', 'example.org', '10.0.0.0/', '10.0.0.0/x', '', 'fd00::/129']) {
    t.throws(() => new Networks([network]), /is neither an address nor a network/, network)
  }
})
