/**
 * The connections of one generator: made at a rate, kept alive, and made again with backoff where a close asks for it.
 * Nothing here costs a timer, a closure or a promise for each connection.
 */
import type { GoawayFrame } from '../../protocol/frame-types.js'
import { record } from '../measure/latency.js'
import { nowMicros } from '../micros.js'
import type { Behaviour, Dialect, DialectHost } from './dialect.js'
import { sourceAddress, sourcePort } from './identity.js'
import { LoadSocket, Peer, State } from './peer.js'
import { Returns } from './returns.js'
import { Tally } from './tally.js'
import type { TcpConnection, TcpOwner } from './tcp.js'
import {
  closeCode,
  type FramePosition,
  Opcode,
  readServerFrame,
  readUpgradeAnswer,
  upgradeRequest,
} from './websocket.js'
import { Wheel } from './wheel.js'

export interface SwarmConfig {
  host: string
  port: number
  path: string
  /** Number of the first device, and how many there are. */
  first: number
  count: number
  /** Of the source addresses: 127.<area>.x.y. */
  area: number
  keepaliveMs: number
}

export interface RampOptions {
  /** Devices that come, from the first idle one on. */
  count: number
  /** New connections a second of this generator; 0: as many as `inFlightMax` lets through. */
  perSecond: number
  inFlightMax: number
}

const TICK_MS = 10
const LATE_MS = 250
const KEEPALIVE_TICK_MS = 250
/** A device pings a little before it would have to. */
const KEEPALIVE_EARLY = 0.9
/** A slow device reads for one second of so many. */
const SLOW_PERIOD = 10
const SLOW_TICK_MS = 1_000

export class Swarm implements DialectHost, TcpOwner {
  readonly tally = new Tally()
  readonly behaviour: Behaviour = { acknowledge: true, reconnect: false, resume: true, slowEvery: 0, spread: 0 }
  readonly peers: Peer[] = []
  readonly #dialect: Dialect
  readonly #request: Buffer
  readonly #frame: FramePosition = { opcode: 0, start: 0, end: 0 }
  readonly returns: Returns
  readonly #timers: NodeJS.Timeout[] = []
  /** Who comes back, leaves, has held or was not greeted: looked at when its time has come. */
  readonly #due = new Wheel<Peer>()
  /** Runs while anybody comes, or may have to. */
  #ticking: NodeJS.Timeout | null = null
  #tickedMs = 0
  /** This process has more to do than it has time for. */
  #isLate = false
  /** Who waits for the end of a socket. */
  readonly #ends = new Map<TcpConnection, () => void>()
  #inFlight = 0
  #ramp: (RampOptions & { next: number; opened: number; wanted: number; startedMs: number; done(): void }) | null = null
  #keepaliveAt = 0
  #keptAliveMs = performance.now()
  #someAreSlow = false
  #slowTurn = 0
  #stopped = false

  constructor(
    private readonly config: SwarmConfig,
    makeDialect: (host: DialectHost) => Dialect,
  ) {
    this.returns = new Returns(`ws://${config.host}:${config.port}${config.path}`)
    this.#dialect = makeDialect(this)
    this.#request = upgradeRequest({ ...config, subprotocol: this.#dialect.subprotocol })
    this.#timers.push(setInterval(() => this.#slow(), SLOW_TICK_MS))
    if (config.keepaliveMs > 0) this.#timers.push(setInterval(() => this.#keepalive(), KEEPALIVE_TICK_MS))
  }

  get dialect(): Dialect {
    return this.#dialect
  }

  /** All of them, also those that have not come yet. */
  everyone(): readonly Peer[] {
    while (this.peers.length < this.config.count) this.#addPeer()
    return this.peers
  }

  /** Resolves when so many more are ready. */
  ramp(options: RampOptions): Promise<void> {
    const busy = this.peers.filter(({ state }) => state !== State.IDLE).length
    const wanted = this.tally.ready + Math.min(options.count, this.config.count - busy)
    return new Promise((resolve) => {
      this.#ramp = { ...options, next: 0, opened: 0, wanted, startedMs: performance.now(), done: resolve }
      this.#tick()
      this.#wake()
    })
  }

  /** Ends a ramp as it stands; who is on the way still comes. */
  halt(): void {
    const ramp = this.#ramp
    this.#ramp = null
    ramp?.done()
  }

  /** Resolves when all are gone. `abrupt`: by reset, so that no TIME_WAIT is left behind. */
  async leave(abrupt: boolean, count = this.peers.length): Promise<void> {
    const gone: Promise<void>[] = []
    for (const peer of this.peers) {
      if (gone.length === count) break
      if (peer.state === State.IDLE) continue
      const { socket } = peer
      peer.leaving = true
      if (!socket) {
        peer.state = State.IDLE
        continue
      }
      gone.push(new Promise((resolve) => this.#ends.set(socket, resolve)))
      if (abrupt) socket.reset()
      else {
        this.#dialect.leave(peer)
        socket.end()
      }
    }
    await Promise.all(gone)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers) clearInterval(timer)
    if (this.#ticking) clearInterval(this.#ticking)
    await this.leave(true)
  }

  ready(peer: Peer): void {
    if (peer.state === State.READY) return
    peer.state = State.READY
    if (this.returns.welcomed(peer)) this.#later(peer, performance.now() + this.returns.stableMs)
    this.tally.ready++
    this.#inFlight--
    record(this.tally.handshake, nowMicros() - peer.startedAtMicros)
    const ramp = this.#ramp
    if (ramp && this.tally.ready >= ramp.wanted) {
      this.#ramp = null
      ramp.done()
    } else if (ramp?.perSecond === 0) this.#openMore()
  }

  goAway(peer: Peer, frame: GoawayFrame): void {
    peer.dueAtMs = Math.max(1, this.returns.goAway(peer, performance.now(), frame))
    this.#later(peer, peer.dueAtMs)
  }

  received(connection: TcpConnection, bytes: Buffer, count: number): void {
    const { peer } = connection as LoadSocket
    this.tally.bytesReceived += count
    if (peer.socket !== connection) return
    if (peer.rest === null) this.#consume(peer, bytes, count)
    else {
      const whole = Buffer.concat([peer.rest, bytes.subarray(0, count)])
      peer.rest = null
      this.#consume(peer, whole, whole.length)
    }
  }

  #consume(peer: Peer, bytes: Buffer, end: number): void {
    let at = 0
    if (peer.state === State.UPGRADING) {
      const answer = readUpgradeAnswer(bytes, end)
      if (!answer) {
        peer.rest = Buffer.from(bytes.subarray(0, end))
        return
      }
      if (answer.status !== 101) {
        this.returns.retryAfter(peer, performance.now(), answer.retryAfterMs)
        peer.socket?.destroy()
        return
      }
      peer.state = State.OPENED
      at = answer.end
      this.#dialect.opened(peer)
    }
    const frame = this.#frame
    while (at < end && readServerFrame(bytes, at, end, frame)) {
      at = frame.end
      if (frame.opcode === Opcode.BINARY || frame.opcode === Opcode.TEXT || frame.opcode === Opcode.CONTINUATION)
        this.#dialect.message(peer, bytes, frame.start, frame.end)
      else if (frame.opcode === Opcode.PONG) this.tally.pongs++
      else if (frame.opcode === Opcode.CLOSE) {
        peer.closeCode = closeCode(bytes, frame.start, frame.end)
        this.tally.closed(peer.closeCode)
        peer.socket?.end()
      }
    }
    if (at < end) peer.rest = Buffer.from(bytes.subarray(at, end))
  }

  #wake(): void {
    if (!this.#stopped) this.#ticking ??= setInterval(() => this.#tick(), TICK_MS)
  }

  #tick(): void {
    const nowMs = performance.now()
    this.#isLate = nowMs - this.#tickedMs > LATE_MS
    this.#tickedMs = nowMs
    this.#due.take(nowMs, (peer) => this.#look(peer, nowMs))
    if (this.#ramp) this.#openMore()
    else if (this.#due.isEmpty && this.#ticking) {
      clearInterval(this.#ticking)
      this.#ticking = null
    }
  }

  #later(peer: Peer, atMs: number): void {
    this.#due.at(atMs, peer)
    this.#wake()
  }

  /** Something of this peer was due: what it is follows from its state, and may have passed. */
  #look(peer: Peer, nowMs: number): void {
    const { state, dueAtMs } = peer
    if (peer.leaving || nowMs < dueAtMs) return
    if (state === State.WAITING) this.#open(peer)
    else if (state === State.READY && dueAtMs > 0) this.#moveOn(peer, nowMs)
    else if (state === State.READY && this.#isOlder(peer, this.returns.stableMs)) this.returns.settled(peer)
    else if (state >= State.CONNECTING && state < State.GREETED && this.#isOlder(peer, this.returns.greetedMsMax)) {
      // What this process had no time to read is not the server's silence: giving up would make a storm of our own.
      if (this.#isLate) this.#later(peer, nowMs + LATE_MS)
      else peer.socket?.destroy()
    }
  }

  /** Since it began to connect. */
  #isOlder(peer: Peer, ms: number): boolean {
    return nowMicros() - peer.startedAtMicros >= ms * 1000
  }

  /** Leaves as GOAWAY asked, and comes back without waiting for the end of the old connection. */
  #moveOn(peer: Peer, nowMs: number): void {
    const old = peer.socket
    this.#dialect.leave(peer)
    peer.socket = null
    this.tally.ready--
    this.tally.connected--
    this.tally.moved++
    old?.end()
    this.#comeBack(peer, nowMs, State.READY)
  }

  /** `was`: its state when the connection or the attempt ended. */
  #comeBack(peer: Peer, nowMs: number, was: Peer['state']): void {
    const atMs = this.returns.ended(peer, nowMs, was === State.READY, was >= State.OPENED)
    peer.rest = null
    if (atMs === null) {
      this.tally.stopped++
      peer.state = State.IDLE
      return
    }
    peer.state = State.WAITING
    peer.dueAtMs = atMs
    this.#later(peer, atMs)
  }

  /** New connections up to what time and what is in flight allow. */
  #openMore(): void {
    const ramp = this.#ramp
    if (!ramp) return
    const elapsedMs = performance.now() - ramp.startedMs
    const due = ramp.perSecond > 0 ? (elapsedMs / 1000) * ramp.perSecond : Number.POSITIVE_INFINITY
    while (ramp.opened < ramp.count && ramp.opened < due && this.#inFlight < ramp.inFlightMax) {
      const peer = this.#nextIdle(ramp)
      if (!peer) return
      ramp.opened++
      this.#open(peer)
    }
  }

  #nextIdle(ramp: { next: number }): Peer | null {
    while (ramp.next < this.config.count) {
      const peer = this.peers[ramp.next] ?? this.#addPeer()
      ramp.next++
      if (peer.state === State.IDLE) return peer
    }
    return null
  }

  /** Made when they are needed, so that what a process weighs before a ramp is the process alone. */
  #addPeer(): Peer {
    const slot = this.peers.length
    const peer = new Peer(slot, this.config.first + slot)
    this.peers.push(peer)
    return peer
  }

  #open(peer: Peer): void {
    peer.state = State.CONNECTING
    peer.leaving = false
    peer.dueAtMs = 0
    peer.rest = null
    peer.tail = null
    peer.startedAtMicros = nowMicros()
    this.#inFlight++
    const { host, port, area, first } = this.config
    const from = sourceAddress(first + peer.slot, area)
    const fromPort = sourcePort(first + peer.slot, peer.dials++)
    peer.socket = new LoadSocket(peer, this, { from, fromPort, host, port })
    this.#later(peer, performance.now() + this.returns.greetedMsMax)
  }

  connected(connection: TcpConnection): void {
    const { peer } = connection as LoadSocket
    peer.state = State.UPGRADING
    this.tally.connected++
    connection.write(this.#request)
  }

  closed(connection: TcpConnection): void {
    const { peer } = connection as LoadSocket
    this.tally.bytesSent += connection.bytesWritten
    this.#ends.get(connection)?.()
    this.#ends.delete(connection)
    if (peer.socket !== connection) return
    peer.socket = null
    peer.rest = null
    const was = peer.state
    peer.state = State.IDLE
    if (was === State.READY) this.tally.ready--
    else this.#inFlight--
    if (was >= State.UPGRADING) this.tally.connected--
    if (peer.leaving || this.#stopped) return
    if (was === State.READY && peer.dueAtMs > 0) this.tally.moved++
    else if (was === State.READY) this.tally.unexpectedDisconnects++
    else if (was === State.CONNECTING) this.tally.failed++
    else this.tally.refused++
    // Who was on the way is expected by a ramp, and tries again like any device.
    const comesBack = was !== State.READY || this.behaviour.reconnect
    if (comesBack) this.#comeBack(peer, performance.now(), was)
  }

  /** Devices that are slow stop reading, and read again for a moment; where none is slow any more, all read. */
  #slow(): void {
    const { slowEvery } = this.behaviour
    if (slowEvery === 0 && !this.#someAreSlow) return
    const reads = slowEvery === 0 || this.#slowTurn++ % SLOW_PERIOD === 0
    for (const peer of this.peers) {
      if (peer.state !== State.READY) continue
      if (reads) peer.socket?.resume()
      else if (peer.index % slowEvery === 0) peer.socket?.pause()
    }
    this.#someAreSlow = slowEvery > 0
  }

  /**
   * A slice of all at each tick, so that each has its turn once in the interval. Of all that may come: among those that came,
   * while a ramp goes on, the first would wait until the round has caught up with the newest, which takes twice the interval.
   */
  #keepalive(): void {
    const everyMs = this.config.keepaliveMs * KEEPALIVE_EARLY
    // By the time that went by: a process that is late does not let its devices fall silent.
    const nowMs = performance.now()
    const share = Math.min(1, Math.max(KEEPALIVE_TICK_MS, nowMs - this.#keptAliveMs) / everyMs)
    this.#keptAliveMs = nowMs
    const { count } = this.config
    const turns = Math.ceil(count * share)
    for (let i = 0; i < turns; i++) {
      const peer = this.peers[this.#keepaliveAt]
      this.#keepaliveAt = (this.#keepaliveAt + 1) % count
      if (peer?.state === State.READY) this.#dialect.keepalive(peer)
    }
  }
}
