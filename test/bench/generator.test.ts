import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import { newArea, sourceAddress } from '../../bench/generator/identity.js'
import { Peer } from '../../bench/generator/peer.js'
import { Reconnects } from '../../bench/generator/reconnects.js'
import { TcpConnection, type TcpOwner } from '../../bench/generator/tcp.js'
import { Tickets } from '../../bench/generator/tickets.js'
import { Wheel } from '../../bench/generator/wheel.js'
import { Close } from '../../protocol/close-codes.js'
import { deviceSettings } from '../../src/device/settings.js'

t.test('tickets are kept by slot, also long ones', async (t) => {
  const tickets = new Tickets()
  t.equal(tickets.get(5), null)
  const short = Buffer.alloc(120, 1)
  const long = Buffer.alloc(400, 2)
  tickets.set(5, short)
  tickets.set(5_000, long)
  t.same(Buffer.from(tickets.get(5) as Uint8Array), short)
  t.same(Buffer.from(tickets.get(5_000) as Uint8Array), long)
  tickets.set(5_000, short)
  t.same(Buffer.from(tickets.get(5_000) as Uint8Array), short)
  tickets.forget(5)
  t.equal(tickets.get(5), null)
})

t.test('a timer wheel passes each item once, when it is due', async (t) => {
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

t.test('devices reconnect by the rules of the device library', async (t) => {
  const { reconnectBaseMs } = deviceSettings()
  const reconnects = new Reconnects('ws://127.0.0.1:1/', () => 0.5)
  const peer = new Peer(0, 0)
  t.equal(reconnects.nextNumber(peer), 1)
  t.notOk(reconnects.welcomed(peer), 'nothing to remember of one to whom nothing happened')
  t.equal(reconnects.ended(peer, 1_000, true), 1_000 + reconnectBaseMs / 2, 'full jitter')
  reconnects.retryAfter(peer, 1_000, 5_000)
  t.ok((reconnects.ended(peer, 1_000, false) ?? 0) >= 6_000, 'not before the hint')
  reconnects.settled(peer)
  const goaway = { type: 'GOAWAY', reason: 'shutdown', afterMs: 100, jitterMs: 1_000, url: '' } as const
  t.equal(reconnects.goAway(peer, 2_000, goaway), 2_600)
  t.equal(reconnects.ended(peer, 2_600, true), 2_600, 'left by itself, and is back at once')
  peer.connection = 7
  peer.closeCode = Close.stale_connection.code
  t.not(reconnects.ended(peer, 3_000, false), null)
  t.ok(reconnects.nextNumber(peer) > 8, 'over what was in the way')
  peer.closeCode = Close.replaced.code
  t.equal(reconnects.ended(peer, 3_000, true), null, 'stays away')
})

class Owner implements TcpOwner {
  bytes = ''
  readonly #waiting = new Map<string, () => void>()
  readonly happened: string[] = []

  connected(): void {
    this.#tell('connected')
  }
  received(_connection: TcpConnection, bytes: Buffer, count: number): void {
    this.bytes += bytes.toString('latin1', 0, count)
    this.#tell('received')
  }
  closed(): void {
    this.#tell('closed')
  }
  until(what: string): Promise<void> {
    return this.happened.includes(what)
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#waiting.set(what, resolve)
        })
  }
  #tell(what: string): void {
    this.happened.push(what)
    this.#waiting.get(what)?.()
  }
}

t.test('a connection without streams reads, writes more than the kernel takes at once, ends and resets', async (t) => {
  const sockets: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => void sockets.push(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const target = { from: sourceAddress(0, newArea()), host: '127.0.0.1', port }

  const owner = new Owner()
  const accepted = once(server, 'connection')
  const connection = new TcpConnection(owner, target)
  await owner.until('connected')
  const [near] = (await accepted) as [Socket]
  t.equal(near.remoteAddress, target.from)
  near.write('hello')
  await owner.until('received')
  t.equal(owner.bytes, 'hello')

  const large = Buffer.alloc(16 * 1024 * 1024, 'x')
  connection.write(large)
  connection.write(Buffer.from('end'))
  connection.end()
  let read = 0
  let tail = ''
  for await (const chunk of near as AsyncIterable<Buffer>) {
    read += chunk.length
    tail = (tail + chunk.toString('latin1')).slice(-4)
  }
  t.equal(read, large.length + 3)
  t.equal(tail, 'xend', 'in order')
  near.end()
  await owner.until('closed')
  t.equal(connection.bytesWritten, large.length + 3)

  const other = new Owner()
  const again = once(server, 'connection')
  const second = new TcpConnection(other, target)
  await other.until('connected')
  const [far] = (await again) as [Socket]
  const failed = once(far.resume(), 'error')
  second.reset()
  second.reset()
  await other.until('closed')
  t.match(await failed, [{ code: 'ECONNRESET' }])
  t.equal(other.happened.filter((what) => what === 'closed').length, 1)
})

t.test('a refused connection reports its end', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  for (const from of [sourceAddress(0, newArea()), '203.0.113.1']) {
    const owner = new Owner()
    new TcpConnection(owner, { from, host: '127.0.0.1', port })
    await owner.until('closed')
    t.same(owner.happened, ['closed'])
  }
})
