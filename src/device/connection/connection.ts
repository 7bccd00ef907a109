/**
 * The connection of a device as a state machine without I/O. Its inputs are the public methods, which take the time as an
 * argument; its effects go to a Sink; its timers are data (`nextInMs`). PROTOCOL.md, "The client loop".
 *
 * | state      | input                          | next       | effects                                                |
 * | ---------- | ------------------------------ | ---------- | ------------------------------------------------------ |
 * | idle       | start                          | raising    | persist the raised connection number                   |
 * | raising    | persisted                      | connecting | open a socket                                          |
 * | raising    | not persisted                  | waiting    | error                                                  |
 * | connecting | opened                         | greeting   | HELLO                                                  |
 * | greeting   | WELCOME                        | live       | ready; persist the ticket; send the pending requests   |
 * | live       | NOTIFY, NOTIFY_GROUP           | live       | persist, then ACK (NOTIFY only), then notification     |
 * | live       | CAUGHT_UP, GAP                 | live       | persist the cursor or mark, then caughtUp or gap       |
 * | live       | REGISTERED, DONE               | live       | persist, then commandEnded                             |
 * | live       | the time of GOAWAY             | waiting    | BYE, close                                             |
 * | live       | no answer to a keepalive       | waiting    | close: half open                                       |
 * | live       | not persisted                  | waiting    | close without ACK, so that the server sends again      |
 * | any open   | closed, other codes            | waiting    | (`raise`: greater number; `token`: forget the ticket)  |
 * | any open   | closed, next move `stop`       | stopped    | fatal error                                            |
 * | any open   | closed, next move `renew`      | waiting    | renew                                                  |
 * | waiting    | renewed                        | waiting    | persist the token, then connect with it                |
 * | waiting    | renewalRefused                 | stopped    | persist that the identity is over; fatal error         |
 * | live       | renewed                        | live       | persist the token, then reconnect with it              |
 * | any open   | deadline, invalid bytes        | waiting    | close                                                  |
 * | waiting    | the time to reconnect          | raising    | persist the raised connection number                   |
 * | any        | stop                           | stopped    | BYE and close if open; pending commands end            |
 *
 * "any open" is connecting, greeting and live. ERROR and GOAWAY may arrive in greeting, too. ERROR changes no state: the
 * machine keeps its hint for the next attempt.
 */
import { Close, type CloseName, closeName, type NextMove } from '../../../protocol/close-codes.js'
import { readFrames } from '../../../protocol/decode.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { EMPTY_MESSAGE, PROTOCOL_VERSION, SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { DeviceFrame, ErrorFrame, ServerFrame, UnknownFrame, WelcomeFrame } from '../../../protocol/frame-types.js'
import { DeviceError } from '../errors.js'
import { Registrar } from '../requests/registrar.js'
import type { Command } from '../requests/requests.js'
import type { DeviceState, Identity } from '../state/state.js'
import { type Turn, Turns } from '../turn.js'
import { ackFrames, ackIdsMax } from './acks.js'
import { Intake } from './intake.js'
import { Keepalive } from './keepalive.js'
import type { ConnectionOptions, ConnectionState, Sink } from './ports.js'
import { Reconnect } from './reconnect.js'
import { SteadyTime } from './steady-time.js'

/** WebSocket close code of a connection that ended without a close frame. */
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
  /** Deadline of the phases waiting, connecting and greeting. */
  private phaseEndsMs = NEVER
  private leaveAtMs = NEVER
  private stableAtMs = NEVER
  private paused = false
  private usedTicket = false
  /** The server has not seen the renewed token in a HELLO yet. */
  private hasUnsentToken = false
  private isRenewing = false
  private ackIdsMax: number

  constructor(
    private readonly deviceState: DeviceState,
    private readonly sink: Sink,
    private readonly options: ConnectionOptions,
  ) {
    const { settings, random } = options
    this.turns = new Turns(deviceState)
    this.registrar = new Registrar(deviceState, this.turns, settings, random)
    this.intake = new Intake(deviceState, this.turns, settings, () => this.registrar.isRegistering)
    this.reconnect = new Reconnect(settings, random, options.url)
    this.keepalive = new Keepalive(settings, random)
    this.ackIdsMax = settings.ackIdsMax
  }

  get state(): ConnectionState {
    return this.phase
  }

  /** True: `flush()` is needed at the end of this turn. */
  get isDirty(): boolean {
    return this.turns.isOpen
  }

  /** A REGISTER or SUBSCRIBE is pending. Messages for it may arrive before its answer. */
  get isRegistering(): boolean {
    return this.registrar.isRegistering
  }

  /** Server's clock minus the local clock. */
  get clockOffsetMs(): number {
    return this.intake.serverAheadMs
  }

  // ---- inputs ---------------------------------------------------------------------------------

  start(nowMs: number): void {
    if (this.phase !== 'idle') return
    this.paused = this.intake.isFull
    if (!this.deviceState.identity) {
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
    const credential = this.deviceState.credential(nowMs)
    this.usedTicket = credential?.kind === 'ticket'
    this.hasUnsentToken = false
    this.send(now, {
      type: 'HELLO',
      version: PROTOCOL_VERSION,
      credential,
      connection: this.deviceState.connection,
      client: this.options.client,
      cursor: this.deviceState.cursor,
      gap: this.deviceState.gap,
    })
  }

  /** A WebSocket message arrived. */
  received(nowMs: number, bytes: Uint8Array): void {
    if (!this.isOpen()) return
    const now = this.time.at(nowMs)
    this.keepalive.heard(now)
    if (bytes.length === 0 && this.keepalive.answered()) return
    const limits = { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX } as const
    const fault = readFrames(bytes, limits, (frame) => {
      this.handleFrame(now, frame)
      return this.isOpen()
    })
    if (fault && this.isOpen()) this.closeAndWait(now, fault.code, new DeviceError('bad_server_bytes', fault.detail))
  }

  /** The socket closed, or did not open. @param retryAfterMs hint of the HTTP answer to the upgrade; 0: no hint. */
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
      this.turns.emitAtTurnEnd({ kind: 'closed', code, name: name ?? 'abnormal', reconnectAtMs: this.time.local(now) })
      this.awaitRenewal()
      return
    }
    if (next === 'token') this.turns.change({ kind: 'ticket', ticket: null })
    if (next === 'raise') this.reconnect.refusedAsStale(this.deviceState.connection)
    const neverLive = this.phase !== 'live'
    this.wait(now, code, name ?? 'abnormal')
    if (neverLive && !name)
      this.turns.emitAtTurnEnd({ kind: 'error', error: new DeviceError('connect_failed', detail) })
  }

  /** Time has passed. Call it `nextInMs` after the last input at the latest; an earlier call does no harm. */
  tick(nowMs: number): void {
    const now = this.time.at(nowMs)
    if (this.phase === 'waiting' && now >= this.phaseEndsMs && !this.waitsForApp()) this.raise()
    if ((this.phase === 'connecting' || this.phase === 'greeting') && now >= this.phaseEndsMs) {
      this.closeAndWait(now, 'hello_timeout', new DeviceError('handshake_timeout'))
    }
    if (this.phase === 'live') this.tickLive(now)
  }

  /** Ends a turn: persists its changes. Its acknowledgements and events follow in `persisted()`. */
  flush(): void {
    for (const event of this.turns.takeImmediate()) this.sink.event(event)
    // A listener of these events may have called `stop()`, which flushes. So the turn is read only now.
    const turn = this.turns.close()
    if (turn) this.sink.persist(turn.changes)
  }

  /** The oldest call of `sink.persist()` succeeded. */
  persisted(nowMs: number): void {
    const now = this.time.at(nowMs)
    const turn = this.turns.confirmed()
    if (!turn) return
    this.acknowledge(now, turn)
    for (const event of turn.events) this.sink.event(event)
    // A failed write before this one may have ended the attempt that this number belongs to.
    if (this.phase === 'raising' && turn.raisesTo === this.deviceState.connection) this.connect(now)
  }

  /** The oldest call of `sink.persist()` failed. */
  persistFailed(nowMs: number, error: DeviceError): void {
    const now = this.time.at(nowMs)
    if (!this.turns.failed()) return
    this.turns.emitAtTurnEnd({ kind: 'error', error })
    // The device cannot acknowledge anything. It leaves, and tries the disk again with the next connection number.
    if (this.phase === 'raising') this.wait(now, ABNORMAL, 'abnormal')
    else if (this.isOpen()) this.closeAndWait(now, 'unavailable', null)
  }

  /** The app has handled a notification. */
  done(nowMs: number, id: bigint): void {
    this.turns.change({ kind: 'done', id })
    if (!this.paused || !this.intake.hasRoom) return
    this.paused = false
    this.keepalive.resume(this.time.at(nowMs))
    if (this.isOpen()) this.sink.resume()
  }

  /** Asks for something; `caller` comes back in an `answered` event. False: too many wait. */
  request(nowMs: number, command: Command, caller: number | null): boolean {
    if (this.phase === 'stopped') return false
    const now = this.time.at(nowMs)
    if (!this.registrar.ask(now, command, caller)) return false
    if (this.phase === 'live') this.sendRequests(now)
    return true
  }

  /** Persists the identity, to which the client has added the time of its renewal. */
  storeIdentity(identity: Identity): void {
    this.turns.change({ kind: 'identity', identity })
  }

  /** The core issued a new token for the same identity. */
  renewed(nowMs: number, identity: Identity): void {
    if (this.phase === 'stopped') return
    const now = this.time.at(nowMs)
    this.turns.change({ kind: 'identity', identity })
    // The server issued the ticket for the older token, and both end together.
    this.turns.change({ kind: 'ticket', ticket: null })
    this.hasUnsentToken = true
    if (this.isRenewing) {
      this.isRenewing = false
      this.phaseEndsMs = now
    } else if (this.phase === 'live') this.reconnectWithNewToken(now)
  }

  /** The core refused to issue another token for this identity. */
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

  /** Milliseconds until `tick()` is due; Infinity: no timer is set. */
  nextInMs(nowMs: number): number {
    return Math.max(this.nextAtMs() - this.time.at(nowMs), 0)
  }

  // ---- connecting -----------------------------------------------------------------------------

  private raise(): void {
    const connection = this.reconnect.nextNumber(this.deviceState.connection)
    if (connection === null) {
      this.giveUp(ABNORMAL, new DeviceError('closed_by_server', 'no connection number is left', { fatal: true }))
      return
    }
    this.phase = 'raising'
    // The raised number gets a turn of its own, whose confirmation opens the socket.
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

  private handleWelcome(now: number, frame: WelcomeFrame): void {
    const { settings } = this.options
    const { serverTimeMs, subscriptions, ticket, limits } = frame
    const localMs = this.time.local(now)
    this.phase = 'live'
    this.reconnect.welcomed()
    this.intake.connected()
    this.intake.serverAheadMs = serverTimeMs - localMs
    this.stableAtMs = now + settings.stableMs
    this.ackIdsMax = ackIdsMax(limits.frameBytesMax, settings.ackIdsMax)
    this.keepalive.start(now, frame.keepaliveSeconds)
    const untilMs = localMs + frame.ticketSeconds * 1_000
    // If the token was renewed after HELLO, this ticket belongs to the older token.
    if (ticket.length > 0 && !this.hasUnsentToken)
      this.turns.change({ kind: 'ticket', ticket: { bytes: ticket, untilMs } })
    const { connection } = this.deviceState
    this.turns.emitAtTurnEnd({ kind: 'ready', connection, serverTimeMs, subscriptions, resumed: this.usedTicket })
    this.registrar.connected(now, subscriptions)
    this.sendRequests(now)
    if (this.hasUnsentToken) this.reconnectWithNewToken(now)
  }

  // ---- frames ---------------------------------------------------------------------------------

  private handleFrame(now: number, frame: ServerFrame | UnknownFrame): void {
    if (frame.type === 'UNKNOWN') return
    if (frame.type === 'ERROR') this.handleError(now, frame)
    else if (frame.type === 'GOAWAY') this.leaveAtMs = this.reconnect.goAway(now, frame)
    else if ((frame.type === 'WELCOME') !== (this.phase === 'greeting')) {
      const error = new DeviceError('bad_server_bytes', `${frame.type} in state ${this.phase}`)
      this.closeAndWait(now, 'unexpected_frame', error)
    } else this.handleExpectedFrame(now, frame)
  }

  private handleExpectedFrame(now: number, frame: Exclude<ServerFrame, ErrorFrame>): void {
    switch (frame.type) {
      case 'WELCOME':
        this.handleWelcome(now, frame)
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
      case 'PONG': // `received()` has noted that bytes arrived, and PONG has no other meaning.
    }
  }

  private pauseWhenFull(): void {
    if (this.paused || !this.intake.isFull) return
    this.paused = true
    this.keepalive.pause()
    this.sink.pause()
  }

  private handleError(now: number, frame: ErrorFrame): void {
    if (frame.request !== 0) {
      this.registrar.refused(now, frame)
      return
    }
    this.reconnect.serverError(now, frame)
    const error = new DeviceError('server_error', `${frame.code}: ${frame.detail}`, { serverCode: frame.code })
    this.turns.emitAtTurnEnd({ kind: 'error', error })
  }

  // ---- leaving --------------------------------------------------------------------------------

  private tickLive(now: number): void {
    if (now >= this.stableAtMs) {
      this.stableAtMs = NEVER
      this.reconnect.settled()
    }
    if (now >= this.leaveAtMs) {
      this.send(now, { type: 'BYE' })
      this.closeAndWait(now, 'bye', null)
      return
    }
    this.sendRequests(now)
    const due = this.keepalive.due(now)
    if (due === 'half_open') this.closeAndWait(now, 'idle', new DeviceError('half_open'))
    if (due === 'ping') {
      this.sink.send(EMPTY_MESSAGE)
      this.keepalive.pinged(now)
    }
  }

  /** Reconnects as after GOAWAY, because a server accepts a token only in HELLO. */
  private reconnectWithNewToken(now: number): void {
    this.leaveAtMs = this.reconnect.goAway(now, { afterMs: 0, jitterMs: 0, url: '' })
  }

  private awaitRenewal(): void {
    this.reconnect.ended(this.phase === 'live', this.phase !== 'connecting')
    this.phase = 'waiting'
    this.phaseEndsMs = NEVER
    this.isRenewing = true
    this.turns.emitAtTurnEnd({ kind: 'renew' })
  }

  private identityIsOver(): void {
    const { identity } = this.deviceState
    if (identity) this.turns.change({ kind: 'identity', identity: { ...identity, isOver: true } })
  }

  private closeAndWait(now: number, name: CloseName, error: DeviceError | null): void {
    const { code } = Close[name]
    this.sink.close(code, name)
    this.wait(now, code, name)
    if (error) this.turns.emitAtTurnEnd({ kind: 'error', error })
  }

  private wait(now: number, code: number, name: string): void {
    if (this.isOpen()) this.reconnect.ended(this.phase === 'live', this.phase !== 'connecting')
    this.phase = 'waiting'
    this.phaseEndsMs = this.reconnect.nextAtMs(now)
    this.turns.emitAtTurnEnd({ kind: 'closed', code, name, reconnectAtMs: this.time.local(this.phaseEndsMs) })
  }

  private giveUp(code: number, error: DeviceError): void {
    this.turns.emitAtTurnEnd({ kind: 'error', error })
    this.end(code)
  }

  private end(code: number): void {
    this.phase = 'stopped'
    this.turns.emitAtTurnEnd({ kind: 'closed', code, name: closeName(code) ?? 'abnormal', reconnectAtMs: null })
    this.registrar.abandon()
  }

  // ---- helpers --------------------------------------------------------------------------------

  private isOpen(): boolean {
    return this.phase === 'connecting' || this.phase === 'greeting' || this.phase === 'live'
  }

  /**
   * True: the inbox is full, so the device does not connect before the app has handled notifications. Exception: a write has
   * failed. Then the app cannot see the notifications before another write succeeds, and the next attempt makes one.
   */
  private waitsForApp(): boolean {
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
    // Acknowledgements of a connection that has ended are dropped: the server sends the messages again.
    if (this.phase === 'live') for (const ack of ackFrames(turn.acks, this.ackIdsMax)) this.send(now, ack)
  }

  private nextAtMs(): number {
    if (this.phase === 'idle' || this.phase === 'raising' || this.phase === 'stopped') return NEVER
    if (this.phase !== 'live') return this.phase === 'waiting' && this.waitsForApp() ? NEVER : this.phaseEndsMs
    return Math.min(this.leaveAtMs, this.stableAtMs, this.keepalive.nextAtMs(), this.registrar.nextAtMs())
  }
}
