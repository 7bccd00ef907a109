/**
 * The connection of a device as a machine without I/O: sockets, clock, file and random source are outside. Inputs are
 * its public methods, each with the time; effects go to a Sink; timers are data (`nextInMs`). PROTOCOL.md, "The device".
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
 * | live       | GOAWAY's time                  | waiting    | BYE, close                                             |
 * | live       | silence, then no PONG          | waiting    | close: half open                                       |
 * | live       | not persisted                  | waiting    | close without ACK: the server sends again              |
 * | any open   | closed, by the code's next move| waiting    | (`raise`: greater number; `token`: forget the ticket)  |
 * | any open   | closed, next move `stop`       | stopped    | fatal error                                            |
 * | any open   | deadline, bytes that are wrong | waiting    | close                                                  |
 * | waiting    | its time                       | raising    | persist the raised connection number                   |
 * | any        | stop                           | stopped    | BYE and close where open; commands end                 |
 *
 * "any open" is connecting, greeting and live. ERROR and GOAWAY may come in greeting too; ERROR only leaves its hint.
 */
import { Close, type CloseName, closeName, type NextMove } from '../../protocol/close-codes.js'
import { readFrames } from '../../protocol/decode.js'
import { encodeFrame } from '../../protocol/encode.js'
import { PROTOCOL_VERSION, SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type {
  ClientInfo,
  Credential,
  DeviceFrame,
  ErrorFrame,
  GoawayFrame,
  RegisteredFrame,
  ServerFrame,
  UnknownFrame,
  WelcomeFrame,
} from '../../protocol/frame-types.js'
import { Backoff } from './backoff.js'
import { DeviceError } from './errors.js'
import type { ConnectionEvent } from './events.js'
import { type Taken, takeGap, takeGroup, takeNotify } from './intake.js'
import { Keepalive } from './keepalive.js'
import { type Outcome, Requests, type Wish } from './requests.js'
import type { DeviceSettings } from './settings.js'
import { type Change, caughtUpCursor, type DeviceState } from './state.js'
import { type Turn, Turns } from './turn.js'

/** What the machine wants done. Nothing here may call back into the machine but `persist`, which may confirm at once. */
export interface Sink {
  /** Opens a socket. Of the one before nothing may be reported any more. */
  open(url: string): void
  send(bytes: Uint8Array): void
  /** Closes the socket, whatever its state; nothing of it may be reported any more. */
  close(code: number, reason: string): void
  /** Stop and start reading from the socket. */
  pause(): void
  resume(): void
  /** Make these (already applied) changes durable, in the order of the calls, each answered by persisted or persistFailed. */
  persist(changes: readonly Change[]): void
  event(event: ConnectionEvent): void
}

export type ConnectionState = 'idle' | 'raising' | 'connecting' | 'greeting' | 'live' | 'waiting' | 'stopped'

export interface ConnectionOptions {
  /** Where the transport listens: ws:// or wss://. */
  url: string
  client: ClientInfo
  settings: DeviceSettings
  random: () => number
}

/** Close code where there was none: the network. */
const ABNORMAL = 1006
const NORMAL = 1000
const NEVER = Number.POSITIVE_INFINITY

export class DeviceConnection {
  private phase: ConnectionState = 'idle'
  private readonly turns = new Turns()
  /** What is told at the end of this turn, durable or not: how the connection fares. */
  private notices: ConnectionEvent[] = []
  private readonly requests: Requests
  private readonly backoff: Backoff
  private readonly keepalive: Keepalive
  /** Where GOAWAY sent the device; one failed attempt there and it is forgotten. */
  private redirect: string | null = null
  private redirected = false
  private deadlineMs = NEVER
  private leaveAtMs = NEVER
  private openAtMs = NEVER
  private stableAtMs = NEVER
  private paused = false
  private usedTicket = false
  /** LOG_RESET came: sequences are another log's, the cursor waits for CAUGHT_UP. */
  private cursorFrozen = false
  /** Refusals as stale since the last WELCOME, and the number that was in the way. */
  private staleCount = 0
  private raiseAbove = 0
  /** Version of the subscriptions as the server last said; -1: not connected yet. */
  private serverSubscriptions = -1
  /** Registering anew did not get through: the versions must go on to differ. */
  private anewFailed = false
  private lastMs = 0
  private skewMs = 0
  /** Server's clock less ours. */
  private serverAheadMs = 0

  constructor(
    private readonly memory: DeviceState,
    private readonly sink: Sink,
    private readonly options: ConnectionOptions,
  ) {
    this.requests = new Requests(options.settings)
    this.backoff = new Backoff(options.settings, options.random)
    this.keepalive = new Keepalive(options.settings.pongTimeoutMs, options.random)
  }

  get state(): ConnectionState {
    return this.phase
  }

  /** True: `flush` has something to do at the end of this turn. */
  get isDirty(): boolean {
    return this.turns.isOpen || this.notices.length > 0
  }

  /** What to add to the local clock to have the server's. */
  get clockOffsetMs(): number {
    return this.serverAheadMs
  }

  // ---- inputs ---------------------------------------------------------------------------------

  start(nowMs: number): void {
    if (this.phase !== 'idle') return
    const now = this.time(nowMs)
    this.paused = this.isFull()
    if (this.paused) {
      this.phase = 'waiting'
      this.openAtMs = now
    } else if (this.memory.identity) this.raise()
    else this.giveUp(now, ABNORMAL, new DeviceError('not_enrolled', undefined, { fatal: true }))
  }

  opened(nowMs: number): void {
    if (this.phase !== 'connecting') return
    const now = this.time(nowMs)
    this.phase = 'greeting'
    this.deadlineMs = now + this.options.settings.welcomeTimeoutMs
    this.send(now, {
      type: 'HELLO',
      version: PROTOCOL_VERSION,
      credential: this.credential(nowMs),
      connection: this.memory.connection,
      client: this.options.client,
      cursor: this.memory.cursor,
      gap: this.memory.gap,
    })
  }

  /** One WebSocket message. */
  received(nowMs: number, bytes: Uint8Array): void {
    if (!this.isOpen()) return
    const now = this.time(nowMs)
    const limits = { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX } as const
    const fault = readFrames(bytes, limits, (frame) => {
      this.frame(now, frame)
      return this.isOpen()
    })
    if (fault && this.isOpen()) this.serverFault(now, fault.code, fault.detail)
  }

  /** The socket closed, or did not open. `retryAfterMs`: of the HTTP answer that refused the upgrade; 0: none. */
  closed(nowMs: number, code: number, retryAfterMs = 0, detail = ''): void {
    if (!this.isOpen()) return
    const now = this.time(nowMs)
    if (retryAfterMs > 0) this.backoff.retryAfter(now, retryAfterMs)
    const name = closeName(code)
    const next: NextMove = name ? Close[name].next : 'reconnect'
    if (next === 'stop' || (next === 'token' && !this.usedTicket)) {
      const meaning = name ? `${name} (${code}): ${Close[name].meaning}` : String(code)
      this.giveUp(now, code, new DeviceError('closed_by_server', meaning, { serverCode: name ?? '', fatal: true }))
      return
    }
    if (next === 'token') this.change({ kind: 'ticket', ticket: null })
    if (next === 'raise') {
      this.staleCount++
      this.raiseAbove = Math.max(this.raiseAbove, this.memory.connection + 16 ** Math.min(this.staleCount, 12))
    }
    const wasLive = this.phase === 'live'
    this.wait(now, code, name ?? (code === NORMAL ? 'normal' : 'abnormal'))
    if (!wasLive && name === null)
      this.notices.push({ kind: 'error', error: new DeviceError('connect_failed', detail) })
  }

  /** Time passed: call it `nextInMs` from the last input, or whenever. */
  tick(nowMs: number): void {
    const now = this.time(nowMs)
    if (this.phase === 'waiting' && now >= this.openAtMs && !this.paused) this.raise()
    if ((this.phase === 'connecting' || this.phase === 'greeting') && now >= this.deadlineMs) {
      this.drop(now, 'hello_timeout', new DeviceError('handshake_timeout'))
    }
    if (this.phase === 'live') this.tickLive(now)
  }

  /** The end of a turn: what was collected is persisted, and acknowledged and told after that. */
  flush(): void {
    const { notices } = this
    this.notices = []
    for (const event of notices) this.sink.event(event)
    const turn = this.turns.close()
    if (turn) this.sink.persist(turn.changes)
  }

  /** The oldest persist request is done. */
  persisted(nowMs: number): void {
    const now = this.time(nowMs)
    const turn = this.turns.confirmed()
    if (!turn) return
    this.acknowledge(now, turn)
    for (const event of turn.events) this.sink.event(event)
    if (turn.raises && this.phase === 'raising') this.connect(now)
  }

  persistFailed(nowMs: number, error: DeviceError): void {
    const now = this.time(nowMs)
    if (!this.turns.failed()) return
    this.notices.push({ kind: 'error', error })
    // Nothing may be acknowledged, and later frames would be no better: come back when the disk may.
    if (this.phase === 'raising') this.wait(now, ABNORMAL, 'abnormal')
    else if (this.isOpen()) this.drop(now, 'unavailable', null)
  }

  /** A notification was handed over. */
  done(nowMs: number, id: bigint): void {
    this.change({ kind: 'done', id })
    if (this.paused && this.memory.inbox.size <= this.options.settings.inboxMax / 2) {
      this.paused = false
      this.keepalive.resume(this.time(nowMs))
      if (this.isOpen()) this.sink.resume()
    }
  }

  /** Asks for something; `caller` comes back in an `answered` event. False: too many wait. */
  request(nowMs: number, wish: Wish, caller: number | null): boolean {
    if (this.phase === 'stopped') return false
    const now = this.time(nowMs)
    if (!this.requests.add(wish, caller, now)) return false
    if (this.phase === 'live') this.sendRequests(now)
    return true
  }

  stop(nowMs: number): void {
    if (this.phase === 'stopped') return
    const now = this.time(nowMs)
    this.flush()
    if (this.phase === 'live') this.send(now, { type: 'BYE' })
    if (this.isOpen()) this.sink.close(NORMAL, 'bye')
    this.phase = 'stopped'
    this.notices.push({ kind: 'closed', code: NORMAL, name: 'normal', reconnectAtMs: null })
    for (const outcome of this.requests.abandon()) this.answer(outcome)
    this.flush()
  }

  /** Milliseconds until `tick` has something to do; Infinity: nothing is timed. */
  nextInMs(nowMs: number): number {
    return Math.max(this.nextAtMs() - this.time(nowMs), 0)
  }

  // ---- connecting -----------------------------------------------------------------------------

  private raise(): void {
    const connection = Math.max(this.memory.connection, this.raiseAbove) + 1
    if (!Number.isSafeInteger(connection)) {
      const error = new DeviceError('closed_by_server', 'no connection number is left', { fatal: true })
      this.giveUp(this.lastMs, ABNORMAL, error)
      return
    }
    this.phase = 'raising'
    this.raiseAbove = 0
    // What was collected before belongs to a turn before.
    this.flush()
    this.change({ kind: 'connection', connection })
    this.turn().raises = true
    this.flush()
  }

  private connect(now: number): void {
    this.phase = 'connecting'
    this.deadlineMs = now + this.options.settings.connectTimeoutMs
    this.leaveAtMs = NEVER
    this.cursorFrozen = false
    this.redirected = this.redirect !== null
    this.sink.open(this.redirect ?? this.options.url)
  }

  private credential(nowMs: number): Credential | null {
    const { ticket, identity } = this.memory
    this.usedTicket = ticket !== null && ticket.untilMs > nowMs
    if (this.usedTicket && ticket) return { kind: 'ticket', ticket: ticket.bytes }
    return identity && { kind: 'token', token: identity.token }
  }

  private welcome(now: number, frame: WelcomeFrame): void {
    const { settings } = this.options
    const localMs = now - this.skewMs
    this.phase = 'live'
    this.staleCount = 0
    this.anewFailed = false
    this.serverAheadMs = frame.serverTimeMs - localMs
    this.stableAtMs = now + settings.stableMs
    const intervalMs = frame.keepaliveSeconds * 1_000
    this.keepalive.start(now, Math.min(Math.max(intervalMs, settings.keepaliveMsMin), settings.keepaliveMsMax))
    if (frame.ticket.length > 0) {
      const ticket = { bytes: frame.ticket, untilMs: localMs + frame.ticketSeconds * 1_000 }
      this.change({ kind: 'ticket', ticket })
    }
    const { connection } = this.memory
    const { serverTimeMs, subscriptions } = frame
    this.notices.push({ kind: 'ready', connection, serverTimeMs, subscriptions, resumed: this.usedTicket })
    this.serverSubscriptions = subscriptions
    this.requests.restart(now)
    if (this.memory.subscriptions >= 0 && this.memory.subscriptions !== subscriptions) this.registerAnew(now)
    this.sendRequests(now)
  }

  /** The server's table is not as this device left it: everything that needs no user's token is asked for again. */
  private registerAnew(now: number): void {
    for (const { application, user } of this.memory.registrations.values()) {
      if (user === '') this.requests.add({ kind: 'register', application, user, userToken: '' }, null, now)
    }
    for (const { application, user, topic } of this.memory.topicList()) {
      this.requests.add({ kind: 'subscribe', application, user, topic }, null, now)
    }
  }

  // ---- frames ---------------------------------------------------------------------------------

  private frame(now: number, frame: ServerFrame | UnknownFrame): void {
    if (frame.type === 'ERROR') this.serverError(now, frame)
    else if (frame.type === 'GOAWAY') this.goAway(now, frame)
    else if (frame.type === 'UNKNOWN') return
    else if ((frame.type === 'WELCOME') !== (this.phase === 'greeting')) {
      this.serverFault(now, 'unexpected_frame', `${frame.type} while ${this.phase}`)
    } else this.frameInOrder(now, frame)
  }

  private frameInOrder(now: number, frame: Exclude<ServerFrame, ErrorFrame | GoawayFrame>): void {
    switch (frame.type) {
      case 'WELCOME':
        this.welcome(now, frame)
        return
      case 'NOTIFY':
        // Duplicates are acknowledged too, after whatever may still be under way of the first.
        this.turn().acks.push(frame.id)
        this.take(takeNotify(this.memory, frame, this.forgetAt(now, frame.expiresAtSeconds)))
        return
      case 'NOTIFY_GROUP':
        this.take(takeGroup(this.memory, frame, this.forgetAt(now, frame.expiresAtSeconds), this.cursorFrozen))
        return
      case 'CAUGHT_UP':
        this.cursorFrozen = false
        if (frame.cursor) this.change({ kind: 'cursor', cursor: caughtUpCursor(this.memory.cursor, frame.cursor) })
        this.tell({ kind: 'caughtUp', cursor: frame.cursor })
        return
      case 'REGISTERED':
        this.registered(now, frame)
        return
      case 'DONE':
        this.settled(frame.subscriptions, this.requests.answered(frame.request))
        return
      case 'GAP':
        if (frame.reason === 'log_reset') this.cursorFrozen = true
        this.take(takeGap(this.memory, frame))
        return
      case 'PONG':
        this.keepalive.pong()
    }
  }

  private take({ change, event }: Taken): void {
    if (change) this.change(change)
    if (event) this.tell(event)
    if (this.paused || !this.isFull()) return
    this.paused = true
    this.keepalive.pause()
    this.sink.pause()
  }

  private goAway(now: number, frame: GoawayFrame): void {
    this.leaveAtMs = this.backoff.goAway(now, frame.afterMs, frame.jitterMs)
    if (frame.url !== '' && isSafeRedirect(this.options.url, frame.url)) {
      this.redirect = frame.url
      this.redirected = false
    }
  }

  private serverError(now: number, frame: ErrorFrame): void {
    if (frame.request !== 0) {
      const { request, code, detail, retryAfterMs } = frame
      const outcome = this.requests.refused(request, code, detail, retryAfterMs, now)
      if (outcome) this.answer(outcome)
      return
    }
    if (frame.retryAfterMs > 0) this.backoff.retryAfter(now, frame.retryAfterMs)
    if (frame.connection > 0) this.raiseAbove = Math.max(this.raiseAbove, frame.connection)
    const error = new DeviceError('server_error', `${frame.code}: ${frame.detail}`, { serverCode: frame.code })
    this.notices.push({ kind: 'error', error })
  }

  // ---- requests -------------------------------------------------------------------------------

  private sendRequests(now: number): void {
    const agreed = this.memory.subscriptions === this.serverSubscriptions
    if (agreed) for (const outcome of this.requests.known(this.memory)) this.answer(outcome)
    const { frames, failed } = this.requests.due(now, this.memory)
    for (const frame of frames) this.send(now, frame)
    for (const outcome of failed) this.answer(outcome)
  }

  private registered(now: number, frame: RegisteredFrame): void {
    const outcome = this.requests.answered(frame.request)
    if (outcome) {
      const { application, user } = outcome.wish
      const { registration: number, registrationId } = frame
      const registration = { number, application, user, registrationId }
      this.change({ kind: 'registered', registration })
      this.tell({ kind: 'registered', registration })
    }
    this.settled(frame.subscriptions, outcome)
    this.sendRequests(now)
  }

  /** A request was answered: what it asked for is so now. */
  private settled(subscriptions: number, outcome: Outcome | null): void {
    this.serverSubscriptions = subscriptions
    if (!outcome) return
    const { wish } = outcome
    if (wish.kind === 'subscribe' || wish.kind === 'unsubscribe') {
      const { application, user, topic } = wish
      this.change({ kind: 'topic', topic: { application, user, topic }, subscribed: wish.kind === 'subscribe' })
    }
    if (wish.kind === 'unregister') {
      const registration = this.memory.registrationOf(wish.application, wish.user)
      if (registration) this.change({ kind: 'ended', registration: registration.number })
    }
    this.answer(outcome)
  }

  private answer(outcome: Outcome): void {
    const { wish, callers, error } = outcome
    const { memory, serverSubscriptions: version } = this
    if (callers.length === 0 && error?.code === 'request_timeout') this.anewFailed = true
    // While anything waits, the state is not yet what that version stands for.
    const agrees = this.requests.size === 0 && !this.anewFailed && version >= 0
    if (agrees && memory.subscriptions !== version) this.change({ kind: 'subscriptions', version })
    const registration = memory.registrationOf(wish.application, wish.user)
    const event: ConnectionEvent = { kind: 'answered', callers, registration, error }
    // Bad news depends on nothing durable.
    if (!error) {
      if (callers.length > 0) this.tell(event)
    } else if (callers.length > 0) this.notices.push(event)
    else if (error.code !== 'stopped') this.notices.push({ kind: 'error', error })
  }

  // ---- leaving --------------------------------------------------------------------------------

  private tickLive(now: number): void {
    if (now >= this.stableAtMs) {
      this.stableAtMs = NEVER
      this.backoff.settled()
    }
    if (now >= this.leaveAtMs) {
      this.send(now, { type: 'BYE' })
      this.sink.close(NORMAL, 'bye')
      this.wait(now, NORMAL, 'normal')
      return
    }
    this.sendRequests(now)
    const due = this.keepalive.due(now)
    if (due === 'half_open') this.drop(now, 'idle', new DeviceError('half_open'))
    if (due === 'ping') {
      this.send(now, { type: 'PING' })
      this.keepalive.pinged(now)
    }
  }

  private serverFault(now: number, name: CloseName, detail: string): void {
    this.drop(now, name, new DeviceError('bad_server_bytes', detail))
  }

  /** Closes from this side, to come back. */
  private drop(now: number, name: CloseName, error: DeviceError | null): void {
    this.sink.close(Close[name].code, name)
    this.wait(now, Close[name].code, name)
    if (error) this.notices.push({ kind: 'error', error })
  }

  private wait(now: number, code: number, name: string): void {
    if (this.phase !== 'live' && this.redirected) this.redirect = null
    this.phase = 'waiting'
    this.openAtMs = this.backoff.next(now)
    this.notices.push({ kind: 'closed', code, name, reconnectAtMs: this.openAtMs - this.skewMs })
  }

  private giveUp(now: number, code: number, error: DeviceError): void {
    this.phase = 'stopped'
    this.notices.push({ kind: 'error', error })
    this.notices.push({ kind: 'closed', code, name: closeName(code) ?? 'abnormal', reconnectAtMs: null })
    for (const outcome of this.requests.abandon()) this.answer(outcome)
    this.lastMs = now
  }

  // ---- helpers --------------------------------------------------------------------------------

  private isOpen(): boolean {
    return this.phase === 'connecting' || this.phase === 'greeting' || this.phase === 'live'
  }

  private isFull(): boolean {
    return this.memory.inbox.size >= this.options.settings.inboxMax
  }

  private send(now: number, frame: DeviceFrame): void {
    this.sink.send(encodeFrame(frame))
    this.keepalive.sent(now)
  }

  private acknowledge(now: number, turn: Turn): void {
    // A connection that has ended takes its acknowledgements along: the server sends again.
    if (this.phase !== 'live') return
    const { ackIdsMax } = this.options.settings
    for (let from = 0; from < turn.acks.length; from += ackIdsMax) {
      this.send(now, { type: 'ACK', ids: turn.acks.slice(from, from + ackIdsMax) })
    }
  }

  private change(change: Change): void {
    this.memory.apply(change)
    this.turn().changes.push(change)
  }

  private tell(event: ConnectionEvent): void {
    this.turn().events.push(event)
  }

  private turn(): Turn {
    return this.turns.open()
  }

  private forgetAt(now: number, expiresAtSeconds: number): number {
    const localMs = now - this.skewMs
    return Math.max(localMs, expiresAtSeconds * 1_000 - this.serverAheadMs) + this.options.settings.seenKeepMs
  }

  private nextAtMs(): number {
    if (this.phase === 'waiting') return this.paused ? NEVER : this.openAtMs
    if (this.phase === 'connecting' || this.phase === 'greeting') return this.deadlineMs
    if (this.phase !== 'live') return NEVER
    return Math.min(this.leaveAtMs, this.stableAtMs, this.keepalive.nextAtMs(), this.requests.nextAtMs())
  }

  /** Time that never steps back: a clock that is set back must not put every deadline off by as much. */
  private time(nowMs: number): number {
    const now = nowMs + this.skewMs
    if (now < this.lastMs) this.skewMs += this.lastMs - now
    this.lastMs = Math.max(now, this.lastMs)
    return this.lastMs
  }
}

/** A server may name another address, never a weaker transport. */
function isSafeRedirect(from: string, to: string): boolean {
  if (!URL.canParse(to)) return false
  const { protocol } = new URL(to)
  return protocol === 'wss:' || (protocol === 'ws:' && from.startsWith('ws:'))
}
