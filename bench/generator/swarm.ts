/**
 * All devices of one generator process. The swarm connects them at a rate, sends their keepalives, and reconnects them
 * with backoff. No connection has a timer, a closure or a promise of its own, because there are up to 18,000.
 */
import type { GoawayFrame } from '../../protocol/frame-types.js'
import { record } from '../measure/latency.js'
import { nowMicros } from '../micros.js'
import type { Behaviour, Dialect, DialectHost } from './dialect.js'
import { sourceAddress, sourcePort } from './identity.js'
import { LoadSocket, Peer, State } from './peer.js'
import { Reconnects } from './reconnects.js'
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
  /** Number of the first device, and the number of devices. */
  first: number
  count: number
  /** Part of the source addresses: 127.<area>.x.y. */
  area: number
  keepaliveMs: number
}

export interface RampOptions {
  /** Number of devices to connect, beginning with the first idle one. */
  count: number
  /** New connections a second of this generator; 0: as many as `inFlightMax` allows. */
  perSecond: number
  inFlightMax: number
}

const TICK_MS = 10
const LATE_MS = 250
const KEEPALIVE_TICK_MS = 250
/** A device sends its keepalive after this share of the interval. */
const KEEPALIVE_EARLY = 0.9
/** A slow device reads for one second out of this many. */
const SLOW_PERIOD = 10
const SLOW_TICK_MS = 1_000

export class Swarm implements DialectHost, TcpOwner {
  readonly tally = new Tally()
  readonly behaviour: Behaviour = { acknowledge: true, reconnect: false, resume: true, slowEvery: 0, spread: 0 }
  readonly peers: Peer[] = []
  readonly #dialect: Dialect
  readonly #request: Buffer
  readonly #frame: FramePosition = { opcode: 0, start: 0, end: 0 }
  readonly reconnects: Reconnects
  readonly #timers: NodeJS.Timeout[] = []
  /** Peers that have to reconnect, to leave, or whose connection has to be checked at some time. */
  readonly #due = new Wheel<Peer>()
  /** Runs while peers connect or are in #due. */
  #ticking: NodeJS.Timeout | null = null
  #tickedMs = 0
  /** This process is overloaded: its last tick came late. */
  #isLate = false
  /** Callbacks of leave(), which waits for the end of each socket. */
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
    this.reconnects = new Reconnects(`ws://${config.host}:${config.port}${config.path}`)
    this.#dialect = makeDialect(this)
    this.#request = upgradeRequest({ ...config, subprotocol: this.#dialect.subprotocol })
    this.#timers.push(setInterval(() => this.#slow(), SLOW_TICK_MS))
    if (config.keepaliveMs > 0) this.#timers.push(setInterval(() => this.#keepalive(), KEEPALIVE_TICK_MS))
  }

  get dialect(): Dialect {
    return this.#dialect
  }

  /** All peers, also those that never connected. */
  everyone(): readonly Peer[] {
    while (this.peers.length < this.config.count) this.#addPeer()
    return this.peers
  }

  /** Resolves when `count` more peers are ready. */
  ramp(options: RampOptions): Promise<void> {
    const busy = this.peers.filter(({ state }) => state !== State.IDLE).length
    const wanted = this.tally.ready + Math.min(options.count, this.config.count - busy)
    return new Promise((resolve) => {
      this.#ramp = { ...options, next: 0, opened: 0, wanted, startedMs: performance.now(), done: resolve }
      this.#tick()
      this.#wake()
    })
  }

  /** Ends a ramp. Handshakes in progress go on. */
  halt(): void {
    const ramp = this.#ramp
    this.#ramp = null
    ramp?.done()
  }

  /** Resolves when the connections are closed. `abrupt`: with a TCP reset, which leaves no TIME_WAIT. */
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
    if (this.reconnects.welcomed(peer)) this.#later(peer, performance.now() + this.reconnects.stableMs)
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
    peer.dueAtMs = Math.max(1, this.reconnects.goAway(peer, performance.now(), frame))
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
        this.reconnects.retryAfter(peer, performance.now(), answer.retryAfterMs)
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
    this.#due.take(nowMs, (peer) => this.#handleDue(peer, nowMs))
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

  /** Performs the due action of this peer. Its state decides which action that is, if any. */
  #handleDue(peer: Peer, nowMs: number): void {
    const { state, dueAtMs } = peer
    if (peer.leaving || nowMs < dueAtMs) return
    if (state === State.WAITING) this.#open(peer)
    else if (state === State.READY && dueAtMs > 0) this.#moveOn(peer, nowMs)
    else if (state === State.READY && this.#isOlder(peer, this.reconnects.stableMs)) this.reconnects.settled(peer)
    else if (state >= State.CONNECTING && state < State.GREETED && this.#isOlder(peer, this.reconnects.greetedMsMax)) {
      // This process may have been too slow to read the answer. To give up would add load that real devices do not make.
      if (this.#isLate) this.#later(peer, nowMs + LATE_MS)
      else peer.socket?.destroy()
    }
  }

  /** Whether the current attempt or connection began at least `ms` ago. */
  #isOlder(peer: Peer, ms: number): boolean {
    return nowMicros() - peer.startedAtMicros >= ms * 1000
  }

  /** Leaves as a GOAWAY asked, and reconnects without waiting for the old connection to end. */
  #moveOn(peer: Peer, nowMs: number): void {
    const old = peer.socket
    this.#dialect.leave(peer)
    peer.socket = null
    this.tally.ready--
    this.tally.connected--
    this.tally.moved++
    old?.end()
    this.#scheduleReconnect(peer, nowMs, State.READY)
  }

  /** Schedules the next attempt. `was`: the peer's state when its connection or attempt ended. */
  #scheduleReconnect(peer: Peer, nowMs: number, was: Peer['state']): void {
    const atMs = this.reconnects.ended(peer, nowMs, was === State.READY, was >= State.OPENED)
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

  /** Opens as many connections as the rate and the limit of handshakes in progress allow. */
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

  /** Peers are created on demand, so that the memory before a ramp is that of the process alone. */
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
    this.#later(peer, performance.now() + this.reconnects.greetedMsMax)
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
    // A peer that was not ready yet always tries again: the ramp waits for it.
    const reconnects = was !== State.READY || this.behaviour.reconnect
    if (reconnects) this.#scheduleReconnect(peer, performance.now(), was)
  }

  /** Pauses the slow devices, and lets them read for a moment. If no device is slow any more, all read. */
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
   * Serves a slice of the peers at each tick, so that each peer has its turn once in an interval. The slices count all
   * peers, also those that are not connected yet: otherwise, during a ramp, the growing number of peers would make a turn
   * last up to twice the interval.
   */
  #keepalive(): void {
    const everyMs = this.config.keepaliveMs * KEEPALIVE_EARLY
    // The slice grows with the time since the last tick, so that a late process still keeps its devices alive.
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
