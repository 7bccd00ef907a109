/** Tests of the load generator: tickets, timers, reconnects, and its TCP connections without Node streams. */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { newArea, sourceAddress } from '../../bench/generator/identity.js'
import { Peer } from '../../bench/generator/peer.js'
import { Reconnects } from '../../bench/generator/reconnects.js'
import { TcpConnection, type TcpOwner } from '../../bench/generator/tcp.js'
import { Tickets } from '../../bench/generator/tickets.js'
import { Wheel } from '../../bench/generator/wheel.js'
import { Close } from '../../protocol/close-codes.js'
import { deviceSettings } from '../../src/device/settings.js'

const SHORT_TICKET = Buffer.alloc(120, 1)
const LONG_TICKET = Buffer.alloc(400, 2)

t.test('a short and a long ticket are kept by slot', async (t) => {
  const tickets = new Tickets()
  tickets.set(5, SHORT_TICKET)
  tickets.set(5_000, LONG_TICKET)
  t.same(Buffer.from(tickets.get(5) as Uint8Array), SHORT_TICKET)
  t.same(Buffer.from(tickets.get(5_000) as Uint8Array), LONG_TICKET)
})

t.test('a short ticket replaces a long one', async (t) => {
  const tickets = new Tickets()
  tickets.set(5_000, LONG_TICKET)
  tickets.set(5_000, SHORT_TICKET)
  t.same(Buffer.from(tickets.get(5_000) as Uint8Array), SHORT_TICKET)
})

t.test('a slot without a ticket, or with a forgotten one, is null', async (t) => {
  const tickets = new Tickets()
  t.equal(tickets.get(5), null)
  tickets.set(5, SHORT_TICKET)
  tickets.forget(5)
  t.equal(tickets.get(5), null)
})

t.test('a timer wheel gives each item once, when it is due', async (t) => {
  const wheel = new Wheel<string>()
  const start = performance.now()
  const taken: string[] = []
  const take = (afterMs: number) => wheel.take(start + afterMs, (item) => taken.push(item))
  wheel.at(start + 1_000, 'later')
  wheel.at(start + 300, 'soon')
  wheel.at(start - 500, 'passed')
  take(200)
  t.same(taken, ['passed'])
  take(990)
  t.same(taken, ['passed', 'soon'])
  t.notOk(wheel.isEmpty)
  take(1_100)
  take(5_000)
  t.same(taken, ['passed', 'soon', 'later'])
  t.ok(wheel.isEmpty)
})

const reconnectsWithJitter = (value: number) => new Reconnects('ws://127.0.0.1:1/', () => value)

t.test('a device without a failure needs no memory of its reconnects', async (t) => {
  const reconnects = reconnectsWithJitter(0.5)
  const peer = new Peer(0, 0)
  t.equal(reconnects.nextNumber(peer), 1)
  t.notOk(reconnects.welcomed(peer))
})

t.test('after a lost connection a device reconnects with full jitter of the base', async (t) => {
  const { reconnectBaseMs } = deviceSettings()
  t.equal(reconnectsWithJitter(0.5).ended(new Peer(0, 0), 1_000, true), 1_000 + reconnectBaseMs / 2)
})

t.test('after a refusal with Retry-After a device reconnects no earlier than the hint', async (t) => {
  const reconnects = reconnectsWithJitter(0.5)
  const peer = new Peer(0, 0)
  reconnects.retryAfter(peer, 1_000, 5_000)
  t.ok((reconnects.ended(peer, 1_000, false) ?? 0) >= 6_000)
})

t.test('after GOAWAY a device leaves at the hinted time and reconnects at once', async (t) => {
  const reconnects = reconnectsWithJitter(0.5)
  const peer = new Peer(0, 0)
  const goaway = { type: 'GOAWAY', reason: 'shutdown', afterMs: 100, jitterMs: 1_000, url: '' } as const
  t.equal(reconnects.goAway(peer, 2_000, goaway), 2_600)
  t.equal(reconnects.ended(peer, 2_600, true), 2_600)
})

t.test('after stale_connection a device reconnects with a number above the refused one', async (t) => {
  const reconnects = reconnectsWithJitter(0.5)
  const peer = new Peer(0, 0)
  peer.connection = 7
  peer.closeCode = Close.stale_connection.code
  t.not(reconnects.ended(peer, 3_000, false), null)
  t.ok(reconnects.nextNumber(peer) > 8)
})

t.test('after replaced a device does not reconnect', async (t) => {
  const peer = new Peer(0, 0)
  peer.closeCode = Close.replaced.code
  t.equal(reconnectsWithJitter(0.5).ended(peer, 3_000, true), null)
})

/** Records the events of a connection. */
class Owner implements TcpOwner {
  bytes = ''
  readonly #waiting = new Map<string, () => void>()
  readonly events: string[] = []

  connected(): void {
    this.#record('connected')
  }
  received(_connection: TcpConnection, bytes: Buffer, count: number): void {
    this.bytes += bytes.toString('latin1', 0, count)
    this.#record('received')
  }
  closed(): void {
    this.#record('closed')
  }
  until(event: string): Promise<void> {
    return this.events.includes(event)
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#waiting.set(event, resolve)
        })
  }
  #record(event: string): void {
    this.events.push(event)
    this.#waiting.get(event)?.()
  }
}

/** A TcpConnection to a server in this process, with the server's socket. */
async function connectedPair(t: Test) {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const from = sourceAddress(0, newArea())
  const owner = new Owner()
  const accepted = once(server, 'connection')
  const connection = new TcpConnection(owner, { from, host: '127.0.0.1', port })
  await owner.until('connected')
  const [serverSocket] = (await accepted) as [Socket]
  return { owner, connection, serverSocket, from }
}

t.test('a TCP connection has the requested source address and reads the bytes of the server', async (t) => {
  const { owner, connection, serverSocket, from } = await connectedPair(t)
  t.equal(serverSocket.remoteAddress, from)
  serverSocket.write('hello')
  await owner.until('received')
  t.equal(owner.bytes, 'hello')
  serverSocket.on('error', () => undefined)
  connection.reset()
})

t.test('16 MiB are written in order, and end() half-closes the connection after them', async (t) => {
  const { owner, connection, serverSocket } = await connectedPair(t)
  const large = Buffer.alloc(16 * 1024 * 1024, 'x')
  connection.write(large)
  connection.write(Buffer.from('end'))
  connection.end()
  let read = 0
  let tail = ''
  for await (const chunk of serverSocket as AsyncIterable<Buffer>) {
    read += chunk.length
    tail = (tail + chunk.toString('latin1')).slice(-4)
  }
  t.equal(read, large.length + 3)
  t.equal(tail, 'xend')
  serverSocket.end()
  await owner.until('closed')
  t.equal(connection.bytesWritten, large.length + 3)
})

t.test('reset() resets the connection at the server and reports one close, also if it is called twice', async (t) => {
  const { owner, connection, serverSocket } = await connectedPair(t)
  const failed = once(serverSocket.resume(), 'error')
  connection.reset()
  connection.reset()
  await owner.until('closed')
  t.match(await failed, [{ code: 'ECONNRESET' }])
  t.equal(owner.events.filter((event) => event === 'closed').length, 1)
})

t.test('a connection that is refused, or whose source address is not local, reports one close', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  for (const from of [sourceAddress(0, newArea()), '203.0.113.1']) {
    const owner = new Owner()
    new TcpConnection(owner, { from, host: '127.0.0.1', port })
    await owner.until('closed')
    t.same(owner.events, ['closed'])
  }
})
