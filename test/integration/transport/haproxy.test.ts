/** Two instances behind HAProxy with deploy/haproxy.cfg. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import t, { type Test } from 'tap'
import { endWithParent } from '../../../src/nats/server/end-with-parent.js'
import { freePort } from '../../../src/transport/supervisor/supervisor.js'
import { until } from '../../support/api.js'
import { startInstance, type TestInstance } from '../../support/instance.js'
import { findProgram, needs } from '../../support/programs.js'
import { RawDevice } from '../../support/raw-device.js'

const DEVICES = 10
const PROXY = Buffer.from('0d0a0d0a000d0a515549540a2111000c0a0102037f0000011f901e14', 'hex')
const UPGRADE = [
  'GET /v1/device HTTP/1.1',
  'Host: x',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  '\r\n',
].join('\r\n')

const sessionsOf = async (instance: TestInstance) =>
  (await instance.status()).workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0)

/** The HTTP side of a core as HAProxy sees it: /readyz, and answers that name the core and the sender. */
async function startFakeCore(t: Pick<Test, 'teardown'>, name: string): Promise<{ port: number; isReady: boolean }> {
  const core = { port: 0, isReady: true }
  const server = createServer(({ url, headers }, response) => {
    const isCheck = url === '/readyz'
    response.writeHead(isCheck && !core.isReady ? 503 : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ name, from: headers['x-forwarded-for'] }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  core.port = (server.address() as AddressInfo).port
  return core
}

t.test('two instances behind HAProxy with deploy/haproxy.cfg', needs('haproxy'), async (t) => {
  const settings = {
    BOREALIS_TRANSPORT_WORKERS: '1',
    BOREALIS_TRANSPORT_PROXY_PROTOCOL_FROM: '127.0.0.0/8',
    BOREALIS_TRANSPORT_CONNECTIONS_PER_ADDRESS_MAX: String(DEVICES + 2),
    BOREALIS_TRANSPORT_DRAIN_DELAY_MS: '4000',
  }
  const one = await startInstance(t, { ...settings, BOREALIS_TRANSPORT_INSTANCE: 'one' })
  const two = await startInstance(t, { ...settings, BOREALIS_TRANSPORT_INSTANCE: 'two' }, one)
  const port = await freePort('127.0.0.1', 0)
  const apiPort = await freePort('127.0.0.1', 0)
  const cores = await Promise.all(['one', 'two'].map((name) => startFakeCore(t, name)))
  const haproxy = spawn(findProgram('haproxy') ?? '', ['-db', '-f', 'deploy/haproxy.cfg'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      ...process.env,
      BOREALIS_DEVICES: `127.0.0.1:${port}`,
      BOREALIS_ONE: `127.0.0.1:${one.port}`,
      BOREALIS_TWO: `127.0.0.1:${two.port}`,
      CHECK_ONE: String(one.adminPort),
      CHECK_TWO: String(two.adminPort),
      BOREALIS_API: `127.0.0.1:${apiPort}`,
      CORE_ONE: `127.0.0.1:${cores[0]?.port}`,
      CORE_TWO: `127.0.0.1:${cores[1]?.port}`,
      CORE_CHECK_ONE: String(cores[0]?.port),
      CORE_CHECK_TWO: String(cores[1]?.port),
    },
  })
  endWithParent(haproxy)
  let output = ''
  haproxy.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  t.teardown(async () => {
    if (haproxy.exitCode !== null) return
    haproxy.kill('SIGKILL')
    await once(haproxy, 'exit')
  })
  const isListening = async () => {
    const socket = connect(port, '127.0.0.1')
    const [result] = await Promise.race([once(socket, 'connect').then(() => ['open']), once(socket, 'error')])
    socket.destroy()
    if (haproxy.exitCode !== null) throw new Error(`haproxy ended: ${output}`)
    return result === 'open'
  }
  await until('haproxy listens', isListening)

  await t.test('HAProxy sends requests of app servers to the cores that are ready', async (t) => {
    const core = async () => {
      const answer = await fetch(`http://127.0.0.1:${apiPort}/x`)
      return answer.status === 200 ? ((await answer.json()) as { name: string; from: string }) : null
    }
    const answered = new Set<string>()
    await until('both cores answer', async () => {
      answered.add((await core())?.name ?? '')
      return answered.has('one') && answered.has('two')
    })
    t.equal((await core())?.from, '127.0.0.1', 'X-Forwarded-For has the address of the app server')
    if (cores[0]) cores[0].isReady = false
    await until('a core that is not ready gets no request', async () => {
      const names = await Promise.all(Array.from({ length: 6 }, async () => (await core())?.name))
      return names.every((name) => name === 'two')
    })
  })

  const url = `ws://127.0.0.1:${port}`
  const closes: string[] = []
  for (let i = 0; i < DEVICES; i++) {
    const client = await one.device({ url })
    client.on('closed', ({ name }) => closes.push(name))
  }
  const shares = [await sessionsOf(one), await sessionsOf(two)]

  await t.test('both instances have a part of the devices', async (t) => {
    t.ok(
      shares.every((share) => share > 0 && share < DEVICES),
      `${shares}`,
    )
  })

  await t.test('the instances limit connections by the address of the device, not of HAProxy', async (t) => {
    // The earlier devices came from 127.0.0.1, and HAProxy itself connects from one address.
    const crowd: RawDevice[] = []
    for (let i = 0; i < DEVICES + 2; i++) crowd.push(await RawDevice.open(port, { localAddress: '127.0.0.77' }))
    const others = await Promise.all([1, 2, 3].map((n) => RawDevice.open(port, { localAddress: `127.0.0.${90 + n}` })))
    t.equal([...crowd, ...others].length, DEVICES + 5)
    for (const raw of [...crowd, ...others]) raw.cut()
  })

  await t.test('when an instance stops, its devices leave as GOAWAY asks and move to the other', async (t) => {
    one.process.kill('SIGTERM')
    t.equal(await one.ended, 0)
    await until('all devices have moved', async () => (await sessionsOf(two)) === DEVICES)
    t.same([...new Set(closes)], ['bye'])
    t.equal(closes.length, shares[0], 'no device of the other instance left')
  })
})

t.test('a PROXY header from a peer that is not trusted is refused with 403 and logged once', async (t) => {
  const instance = await startInstance(t, { BOREALIS_TRANSPORT_WORKERS: '1' })
  const answer = async (...parts: (Buffer | string)[]) => {
    const socket = connect(instance.port, '127.0.0.1')
    for (const part of parts) socket.write(part)
    const [data] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return data.toString('latin1').split('\r\n')[0]
  }
  t.match(await answer(PROXY, UPGRADE), /403/)
  t.match(await answer(PROXY, UPGRADE), /403/)
  t.match(await answer(UPGRADE), /101/)
  const warnings = instance.log.filter(({ message }) => /proxyProtocolFrom/.test(String(message)))
  t.match(warnings, [{ peer: '127.0.0.1', level: 'warn' }], 'one line for two refusals')
})

t.test('connections with a PROXY header from a trusted peer are counted by the address in the header', async (t) => {
  const instance = await startInstance(t, {
    BOREALIS_TRANSPORT_WORKERS: '1',
    BOREALIS_TRANSPORT_PROXY_PROTOCOL_FROM: '127.0.0.1',
    BOREALIS_TRANSPORT_CONNECTIONS_PER_ADDRESS_MAX: '1',
  })
  const open = async (header: Buffer) => {
    const socket = connect(instance.port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.write(header)
    socket.write(UPGRADE)
    const [data] = (await once(socket, 'data')) as [Buffer]
    return data.toString('latin1').split('\r\n').slice(0, 2).join('|')
  }
  const other = Buffer.from(PROXY)
  other[19] = 9
  t.match(await open(PROXY), /101/)
  t.match(await open(PROXY), /503.*\|Retry-After: 5/, 'a second connection of the same address')
  t.match(await open(other), /101/, 'another address of the same peer')
  t.match(await open(Buffer.alloc(0)), /101/, 'without a header, as a health check of the peer')
})

t.test('a listener with both proxyProtocolFrom and TLS files is refused', async (t) => {
  const { Listener } = await import('../../../src/transport/socket/listener.js')
  const options = { host: '127.0.0.1', port: 0, backpressureBytesMax: 1, onError: () => undefined }
  t.throws(
    () => new Listener({ ...options, tlsCertificate: 'x', tlsKey: 'y', proxyProtocolFrom: ['10.0.0.0/8'] }),
    /plain connections only/,
  )
})
