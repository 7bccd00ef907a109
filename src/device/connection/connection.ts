/**
 * The connection of a device as a machine without I/O: sockets, clock, file and random source are outside. Inputs are
 * its public methods, each with the time; effects go to a Sink; timers are data (`nextInMs`). PROTOCOL.md, "The client loop".
 *
 * | state      | input                          | next       | effects                                                |
 * | ---------- | ------------------------------ | ---------- | ------------------------------------------------------ |
 * | idle       | start                          | raising    | persist the raised connection number                   |
 * | raising    | persisted                      | connecting | open a socket                                          |
 * | raising    | not persisted                  | waiting    | error                                                  |
 * | connecting | opened                         | greeting   | HELLO                                                  |
 * | greeting   | WELCOME                        | live       | ready; persist the ticket; requests that wait          |
 * | live       | NOTIFY, NOTIFY_GROUP           | live       | persist, then ACK (unicast), then notification         |
 * | live       | CAUGHT_UP, GAP                 | live       | persist the cursor or mark, then tell                  |
 * | live       | REGISTERED, DONE               | live       | persist, then answer the command                       |
 * | live       | the time that GOAWAY gave      | waiting    | BYE, close                                             |
 * | live       | silence, then no answer        | waiting    | close: half open                                       |
 * | live       | not persisted                  | waiting    | close without ACK: the server sends again              |
 * | any open   | closed, by the code's next move| waiting    | (`raise`: greater number; `token`: forget the ticket)  |
 * | any open   | closed, next move `stop`       | stopped    | fatal error                                            |
 * | any open   | closed, next move `renew`      | waiting    | renew: a new token is asked for                        |
 * | waiting    | renewed                        | waiting    | persist the token, then connect with it                |
 * | waiting    | renewalRefused                 | stopped    | persist that the identity is over; fatal error         |
 * | live       | renewed                        | live       | persist the token; leave once, to show it              |
 * | any open   | deadline, bytes that are wrong | waiting    | close                                                  |
 * | waiting    | its time                       | raising    | persist the raised connection number                   |
 * | any        | stop                           | stopped    | BYE and close where open; commands end                 |
 *
 * "any open" is connecting, greeting and live. ERROR and GOAWAY may come in greeting too; ERROR only leaves its hint.
 */
import { Close, type CloseName, closeName, type NextMove } from '../../../protocol/close-codes.js'
import { readFrames } from '../../../protocol/decode.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { EMPTY_MESSAGE, PROTOCOL_VERSION, SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { DeviceFrame, ErrorFrame, ServerFrame, UnknownFrame, WelcomeFrame } from '../../../protocol/frame-types.js'
import { DeviceError } from '../errors.js'
import { Registrar } from '../requests/registrar.js'
import type { Wish } from '../requests/requests.js'
import type { DeviceState, Identity } from '../state/state.js'
import { type Turn, Turns } from '../turn.js'
import { ackFrames, ackIdsMax } from './acks.js'
import { Intake } from './intake.js'
import { Keepalive } from './keepalive.js'
import type { ConnectionOptions, ConnectionState, Sink } from './ports.js'
import { Reconnect } from './reconnect.js'
import { SteadyTime } from './steady-time.js'

/** Close code where there was none: the network. */
const ABNORMAL = 1006
const NEVER = Number.POSITIVE_INFINITY

export class DeviceConnection {
  private phase: ConnectionState = 'idle'
  private readonly turns: Turns
  private readonly intake: Intake
  private readonly registrar: Registrar
  private readonly reconnect: Reconnect
  private readonly keepalive: Keepalive
  private readonly time = new SteadyTime()
  /** When the phase ends by itself: waiting, connecting, greeting. */
  private phaseEndsMs = NEVER
  private leaveAtMs = NEVER
  private stableAtMs = NEVER
  private paused = false
  private usedTicket = false
  /** A renewed token that no HELLO has shown yet. */
  private isTokenUnshown = false
  private isRenewing = false
  private ackIdsMax: number

  constructor(
    private readonly memory: DeviceState,
    private readonly sink: Sink,
    private readonly options: ConnectionOptions,
  ) {
    const { settings, random } = options
    this.turns = new Turns(memory)
    this.registrar = new Registrar(memory, this.turns, settings, random)
    this.intake = new Intake(memory, this.turns, settings, () => this.registrar.isAsking)
    this.reconnect = new Reconnect(settings, random, options.url)
    this.keepalive = new Keepalive(settings, random)
    this.ackIdsMax = settings.ackIdsMax
  }

  get state(): ConnectionState {
    return this.phase
  }

  /** True: `flush` has something to do at the end of this turn. */
  get isDirty(): boolean {
    return this.turns.isOpen
  }

  /** A registration or a topic is being asked for: what comes for it may come before the answer. */
  get isAsking(): boolean {
    return this.registrar.isAsking
  }

  /** What to add to the local clock for the server's. */
  get clockOffsetMs(): number {
    return this.intake.serverAheadMs
  }

  // ---- inputs ---------------------------------------------------------------------------------

  start(nowMs: number): void {
    if (this.phase !== 'idle') return
    this.paused = this.intake.isFull
    if (!this.memory.identity) {
      this.giveUp(ABNORMAL, new DeviceError('not_enrolled', undefined, { fatal: true }))
    } else if (this.paused) {
      this.phase = 'waiting'
      this.phaseEndsMs = this.time.at(nowMs)
    } else this.raise()
  }

  opened(nowMs: number): void {
    if (this.phase !== 'connecting') return
    const now = this.time.at(nowMs)
    this.phase = 'greeting'
    this.phaseEndsMs = now + this.options.settings.welcomeTimeoutMs
    const credential = this.memory.credential(nowMs)
    this.usedTicket = credential?.kind === 'ticket'
    this.isTokenUnshown = false
    this.send(now, {
      type: 'HELLO',
      version: PROTOCOL_VERSION,
      credential,
      connection: this.memory.connection,
      client: this.options.client,
      cursor: this.memory.cursor,
      gap: this.memory.gap,
    })
  }

  /** One WebSocket message. */
  received(nowMs: number, bytes: Uint8Array): void {
    if (!this.isOpen()) return
    const now = this.time.at(nowMs)
    this.keepalive.heard(now)
    if (bytes.length === 0 && this.keepalive.answered()) return
    const limits = { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX } as const
    const fault = readFrames(bytes, limits, (frame) => {
      this.frame(now, frame)
      return this.isOpen()
    })
    if (fault && this.isOpen()) this.drop(now, fault.code, new DeviceError('bad_server_bytes', fault.detail))
  }

  /** The socket closed, or did not open. `retryAfterMs`: of the HTTP answer that refused the upgrade; 0: none. */
  closed(nowMs: number, code: number, retryAfterMs = 0, detail = ''): void {
    if (!this.isOpen()) return
    const now = this.time.at(nowMs)
    this.reconnect.retryAfter(now, retryAfterMs)
    const name = closeName(code)
    const next: NextMove = name ? Close[name].next : 'reconnect'
    const renews = next === 'renew' && this.options.renews === true
    if (name && (next === 'stop' || (next === 'renew' && !renews))) {
      if (name === 'bad_token') this.identityIsOver()
      const meaning = `${name} (${code}): ${Close[name].meaning}`
      this.giveUp(code, new DeviceError('closed_by_server', meaning, { serverCode: name, fatal: true }))
      return
    }
    if (renews) {
      this.turns.notice({ kind: 'closed', code, name: name ?? 'abnormal', reconnectAtMs: this.time.local(now) })
      this.awaitRenewal()
      return
    }
    if (next === 'token') this.turns.change({ kind: 'ticket', ticket: null })
    if (next === 'raise') this.reconnect.refusedAsStale(this.memory.connection)
    const neverLive = this.phase !== 'live'
    this.wait(now, code, name ?? 'abnormal')
    if (neverLive && !name) this.turns.notice({ kind: 'error', error: new DeviceError('connect_failed', detail) })
  }

  /** Time passed: call it `nextInMs` from the last input, or whenever. */
  tick(nowMs: number): void {
    const now = this.time.at(nowMs)
    if (this.phase === 'waiting' && now >= this.phaseEndsMs && !this.isHeldBack()) this.raise()
    if ((this.phase === 'connecting' || this.phase === 'greeting') && now >= this.phaseEndsMs) {
      this.drop(now, 'hello_timeout', new DeviceError('handshake_timeout'))
    }
    if (this.phase === 'live') this.tickLive(now)
  }

  /** The end of a turn: what was collected is persisted, and acknowledged and told after that. */
  flush(): void {
    for (const event of this.turns.takeNotices()) this.sink.event(event)
    // Only now: a listener may have ended the turn itself, by stopping.
    const turn = this.turns.close()
    if (turn) this.sink.persist(turn.changes)
  }

  /** The oldest persist request is done. */
  persisted(nowMs: number): void {
    const now = this.time.at(nowMs)
    const turn = this.turns.confirmed()
    if (!turn) return
    this.acknowledge(now, turn)
    for (const event of turn.events) this.sink.event(event)
    // Not that of an attempt which was given up because a write before it failed.
    if (this.phase === 'raising' && turn.raisesTo === this.memory.connection) this.connect(now)
  }

  persistFailed(nowMs: number, error: DeviceError): void {
    const now = this.time.at(nowMs)
    if (!this.turns.failed()) return
    this.turns.notice({ kind: 'error', error })
    // Nothing may be acknowledged, and later frames would be no better: come back when the disk may.
    if (this.phase === 'raising') this.wait(now, ABNORMAL, 'abnormal')
    else if (this.isOpen()) this.drop(now, 'unavailable', null)
  }

  /** A notification was handed over. */
  done(nowMs: number, id: bigint): void {
    this.turns.change({ kind: 'done', id })
    if (!this.paused || !this.intake.hasRoom) return
    this.paused = false
    this.keepalive.resume(this.time.at(nowMs))
    if (this.isOpen()) this.sink.resume()
  }

  /** Asks for something; `caller` comes back in an `answered` event. False: too many wait. */
  request(nowMs: number, wish: Wish, caller: number | null): boolean {
    if (this.phase === 'stopped') return false
    const now = this.time.at(nowMs)
    if (!this.registrar.ask(now, wish, caller)) return false
    if (this.phase === 'live') this.sendRequests(now)
    return true
  }

  /** The time for the renewal of this identity was drawn. */
  keep(identity: Identity): void {
    this.turns.change({ kind: 'identity', identity })
  }

  /** The service gave another token for the same identity. */
  renewed(nowMs: number, identity: Identity): void {
    if (this.phase === 'stopped') return
    const now = this.time.at(nowMs)
    this.turns.change({ kind: 'identity', identity })
    // A ticket descends from the older token, and ends with it.
    this.turns.change({ kind: 'ticket', ticket: null })
    this.isTokenUnshown = true
    if (this.isRenewing) {
      this.isRenewing = false
      this.phaseEndsMs = now
    } else if (this.phase === 'live') this.leaveToShow(now)
  }

  /** The service will not give this identity another token. */
  renewalRefused(error: DeviceError): void {
    if (this.phase === 'stopped' || !this.isRenewing) return
    this.identityIsOver()
    this.giveUp(Close.token_expired.code, error)
  }

  stop(nowMs: number): void {
    if (this.phase === 'stopped') return
    const now = this.time.at(nowMs)
    this.flush()
    if (this.phase === 'live') this.send(now, { type: 'BYE' })
    if (this.isOpen()) this.sink.close(Close.bye.code, 'bye')
    this.end(Close.bye.code)
    this.flush()
  }

  /** Milliseconds until `tick` has something to do; Infinity: nothing is timed. */
  nextInMs(nowMs: number): number {
    return Math.max(this.nextAtMs() - this.time.at(nowMs), 0)
  }

  // ---- connecting -----------------------------------------------------------------------------

  private raise(): void {
    const connection = this.reconnect.nextNumber(this.memory.connection)
    if (connection === null) {
      this.giveUp(ABNORMAL, new DeviceError('closed_by_server', 'no connection number is left', { fatal: true }))
      return
    }
    this.phase = 'raising'
    // What was collected before belongs to a turn before.
    this.flush()
    this.turns.raiseTo(connection)
    this.flush()
  }

  private connect(now: number): void {
    this.phase = 'connecting'
    this.phaseEndsMs = now + this.options.settings.connectTimeoutMs
    this.leaveAtMs = NEVER
    this.paused = false
    this.sink.open(this.reconnect.nextUrl())
  }

  private welcome(now: number, frame: WelcomeFrame): void {
    const { settings } = this.options
    const { serverTimeMs, subscriptions, ticket, limits } = frame
    const localMs = this.time.local(now)
    this.phase = 'live'
    this.reconnect.welcomed()
    this.intake.serverAheadMs = serverTimeMs - localMs
    this.stableAtMs = now + settings.stableMs
    this.ackIdsMax = ackIdsMax(limits.frameBytesMax, settings.ackIdsMax)
    this.keepalive.start(now, frame.keepaliveSeconds)
    const untilMs = localMs + frame.ticketSeconds * 1_000
    // With a token renewed since HELLO, this ticket is of the older token.
    if (ticket.length > 0 && !this.isTokenUnshown)
      this.turns.change({ kind: 'ticket', ticket: { bytes: ticket, untilMs } })
    const { connection } = this.memory
    this.turns.notice({ kind: 'ready', connection, serverTimeMs, subscriptions, resumed: this.usedTicket })
    this.registrar.connected(now, subscriptions)
    this.sendRequests(now)
    if (this.isTokenUnshown) this.leaveToShow(now)
  }

  // ---- frames ---------------------------------------------------------------------------------

  private frame(now: number, frame: ServerFrame | UnknownFrame): void {
    if (frame.type === 'UNKNOWN') return
    if (frame.type === 'ERROR') this.serverError(now, frame)
    else if (frame.type === 'GOAWAY') this.leaveAtMs = this.reconnect.goAway(now, frame)
    else if ((frame.type === 'WELCOME') !== (this.phase === 'greeting')) {
      const error = new DeviceError('bad_server_bytes', `${frame.type} while ${this.phase}`)
      this.drop(now, 'unexpected_frame', error)
    } else this.frameInOrder(now, frame)
  }

  private frameInOrder(now: number, frame: Exclude<ServerFrame, ErrorFrame>): void {
    switch (frame.type) {
      case 'WELCOME':
        this.welcome(now, frame)
        return
      case 'NOTIFY':
      case 'NOTIFY_GROUP':
      case 'CAUGHT_UP':
      case 'GAP':
        this.intake.take(this.time.local(now), frame)
        this.pauseWhenFull()
        return
      case 'REGISTERED':
      case 'DONE':
        this.registrar.answered(now, frame)
        this.sendRequests(now)
        return
      case 'PONG': // Any bytes are a sign of life: this frame has nothing else to say.
    }
  }

  private pauseWhenFull(): void {
    if (this.paused || !this.intake.isFull) return
    this.paused = true
    this.keepalive.pause()
    this.sink.pause()
  }

  private serverError(now: number, frame: ErrorFrame): void {
    if (frame.request !== 0) {
      this.registrar.refused(now, frame)
      return
    }
    this.reconnect.serverError(now, frame)
    const error = new DeviceError('server_error', `${frame.code}: ${frame.detail}`, { serverCode: frame.code })
    this.turns.notice({ kind: 'error', error })
  }

  // ---- leaving --------------------------------------------------------------------------------

  private tickLive(now: number): void {
    if (now >= this.stableAtMs) {
      this.stableAtMs = NEVER
      this.reconnect.settled()
    }
    if (now >= this.leaveAtMs) {
      this.send(now, { type: 'BYE' })
      this.drop(now, 'bye', null)
      return
    }
    this.sendRequests(now)
    const due = this.keepalive.due(now)
    if (due === 'half_open') this.drop(now, 'idle', new DeviceError('half_open'))
    if (due === 'ping') {
      this.sink.send(EMPTY_MESSAGE)
      this.keepalive.pinged(now)
    }
  }

  /** As after GOAWAY: the worker that has the device learns of the new token by its next HELLO. */
  private leaveToShow(now: number): void {
    this.leaveAtMs = this.reconnect.goAway(now, { afterMs: 0, jitterMs: 0, url: '' })
  }

  private awaitRenewal(): void {
    this.reconnect.ended(this.phase === 'live', this.phase !== 'connecting')
    this.phase = 'waiting'
    this.phaseEndsMs = NEVER
    this.isRenewing = true
    this.turns.notice({ kind: 'renew' })
  }

  private identityIsOver(): void {
    const { identity } = this.memory
    if (identity) this.turns.change({ kind: 'identity', identity: { ...identity, isOver: true } })
  }

  /** Closes from this side, to come back. */
  private drop(now: number, name: CloseName, error: DeviceError | null): void {
    const { code } = Close[name]
    this.sink.close(code, name)
    this.wait(now, code, name)
    if (error) this.turns.notice({ kind: 'error', error })
  }

  private wait(now: number, code: number, name: string): void {
    if (this.isOpen()) this.reconnect.ended(this.phase === 'live', this.phase !== 'connecting')
    this.phase = 'waiting'
    this.phaseEndsMs = this.reconnect.nextAtMs(now)
    this.turns.notice({ kind: 'closed', code, name, reconnectAtMs: this.time.local(this.phaseEndsMs) })
  }

  private giveUp(code: number, error: DeviceError): void {
    this.turns.notice({ kind: 'error', error })
    this.end(code)
  }

  private end(code: number): void {
    this.phase = 'stopped'
    this.turns.notice({ kind: 'closed', code, name: closeName(code) ?? 'abnormal', reconnectAtMs: null })
    this.registrar.abandon()
  }

  // ---- helpers --------------------------------------------------------------------------------

  private isOpen(): boolean {
    return this.phase === 'connecting' || this.phase === 'greeting' || this.phase === 'live'
  }

  /** The inbox is full: no use in connecting, but to write again what could not be written and so not be handed over. */
  private isHeldBack(): boolean {
    return this.paused && !this.turns.isHolding
  }

  private send(now: number, frame: DeviceFrame): void {
    this.sink.send(encodeFrame(frame))
    this.keepalive.sent(now)
  }

  private sendRequests(now: number): void {
    for (const frame of this.registrar.due(now)) this.send(now, frame)
  }

  private acknowledge(now: number, turn: Turn): void {
    // A connection that has ended takes its acknowledgements along: the server sends again.
    if (this.phase === 'live') for (const ack of ackFrames(turn.acks, this.ackIdsMax)) this.send(now, ack)
  }

  private nextAtMs(): number {
    if (this.phase === 'idle' || this.phase === 'raising' || this.phase === 'stopped') return NEVER
    if (this.phase !== 'live') return this.phase === 'waiting' && this.isHeldBack() ? NEVER : this.phaseEndsMs
    return Math.min(this.leaveAtMs, this.stableAtMs, this.keepalive.nextAtMs(), this.registrar.nextAtMs())
  }
}
