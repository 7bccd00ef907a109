/**
 * The session of one device on one connection, without I/O: inputs are method calls, effects go to a SessionSink.
 *
 * Before its HELLO a connection is a Greeting, a type of its own that owns no device and takes nothing but HELLO. The
 * Session begins where HELLO was believed. Groups are not its matter (groups/), except for the CAUGHT_UP that ends both.
 *
 *   state      input                                   next       effects
 *   ---------  --------------------------------------  ---------  ------------------------------------------------
 *   (none)     Greeting believed the HELLO             claiming   the session write is asked for
 *   claiming   claimed(revision)                       reading    QUEUE and the device record are asked for
 *   claiming   refused(connection)                     closed     ERROR, close stale_connection
 *   claiming,  any frame                               closed     ERROR, close unexpected_frame
 *     reading  failed()                                closed     ERROR, close unavailable
 *   reading    welcome(queued, ...)                    behind     WELCOME, GAP?, then as behind
 *   not live   deliver(item)                           the same   held; report WINDOW_FULL where too much is held
 *   reading,   catchUp()                               the same   marked: what is read now may miss what was queued;
 *     behind                                                      report WINDOW_FULL for what is held
 *   behind     (window has room, records left)         behind     NOTIFY of the oldest queued record
 *   behind     (records sent, marked)                  behind     QUEUE is asked for again
 *   behind     (no read to come, items held)           behind     NOTIFY of the oldest held item
 *   behind     (nothing left, not marked)              live       CAUGHT_UP, where groups are done too
 *   behind     queueRead(queued)                      behind     GAP?, NOTIFY as above
 *   live       deliver(item), room                     live       NOTIFY
 *   live       deliver(item), window full              live       report WINDOW_FULL, and so for all that follow
 *   live       catchUp()                               behind     QUEUE is asked for again
 *   behind,    ACK                                     the same   report ACKED or settlement; room in the window
 *     live
 *     "        REGISTER, SUBSCRIBE, ...                the same   the core is asked; REGISTERED, DONE or ERROR
 *     "        PING, or an empty message               the same   PONG, or an empty message
 *     "        BYE                                     closed     close bye
 *   any        end()                                   closed     report CLOSED for all in flight and held
 *
 * Order (I3) hangs on three things. Records of the queue go before held items. Once one item was answered WINDOW_FULL, all
 * that are held and all later ones are, until the router that enqueues them asked for a catch-up (or RESUME_TICKS passed
 * without): so that nothing held is older than what is in the queue. And while a read is to come nothing goes live.
 */

import type { CloseName } from '../../../protocol/close-codes.js'
import { type DeviceRequest, Report, type ReportCode, type TxItem } from '../../../protocol/envelope.js'
import type { Cursor, DeviceFrame, GapMark, ServerFrame, UnknownFrame } from '../../../protocol/frame-types.js'
import type { QueueEntry } from '../../store/queue.js'
import type { Socket } from '../socket/socket.js'
import { type Backlog, type Held, newBacklog, takeHeld } from './backlog.js'
import { gapOf } from './gap.js'
import { findInFlight, type InFlight, takeInFlight } from './in-flight.js'
import { isExpired, type Now } from './now.js'
import { hasToReadAgain, noOptionalState, type OptionalState } from './optional-state.js'
import { type QueueRef, refOf } from './queue-ref.js'
import { deviceRequest, errorFrame, type RequestFrame } from './requests.js'

export interface SessionLimits {
  window: number
  held: number
  requests: number
  framesPerSecond: number
}

/** What a session asks of the world. Calls return at once; results come back as inputs, in a later turn. */
export interface SessionSink {
  readonly limits: SessionLimits
  /** A frame that is encoded already. */
  forward(session: Session, frame: Uint8Array): void
  send(session: Session, frame: ServerFrame): void
  /** The answer to an empty message: another one. */
  answerEmpty(session: Session): void
  /** Ends the connection, after an ERROR frame; `end` of the session is called before this returns. */
  close(session: Session, reason: CloseName, detail?: string, connection?: number): void
  report(session: Session, router: string, id: bigint, report: ReportCode): void
  /** A queued message was acknowledged. False where there is no room to remember that. */
  settle(session: Session, queued: QueueRef): boolean
  /**
   * True from the acknowledgement of a queued message on until its record is gone and no read under way can show it any
   * more: it needs no second delivery.
   */
  isSettling(device: string, id: bigint): boolean
  /** Answered by queueRead, or by queueReadFailed. */
  readQueue(session: Session): void
  /** Answered by replied. */
  request(session: Session, request: number, what: DeviceRequest): void
}

export type SessionState = 'claiming' | 'reading' | 'behind' | 'live' | 'closed'

/** What a frame counts towards the rate limit. A device owes us ACKs; of one with 2,000 ids that nobody waited for, each counts. */
const FRAME_COST = 20
const ACK_COST = 1

export class Session {
  state: SessionState = 'claiming'
  /** Revision of its record in the session table; 0: not written yet. */
  revision = 0
  /** Version of the subscriptions that the worker follows for it. */
  subscriptions = 0
  /** Frames of this turn that the outbox has not sent yet. */
  outgoing: Uint8Array | Uint8Array[] | null = null

  private inFlight: InFlight[] | null = null
  private backlog: Backlog | null = newBacklog()
  /** Of the frames heard in `heardTick`. */
  private cost = 0
  /** Made with the first of it: most sessions never have any. */
  private optional: OptionalState | null

  constructor(
    readonly socket: Socket,
    readonly device: string,
    /** The device's connection number. */
    readonly connection: number,
    gap: GapMark | null,
    private readonly sink: SessionSink,
    private heardTick: number,
  ) {
    this.optional = gap === null ? null : noOptionalState(gap)
  }

  // ---- from the device ------------------------------------------------------------------------

  frame(frame: DeviceFrame | UnknownFrame, now: Now): void {
    if (!this.mayRead(frame.type, frame.type === 'ACK' ? ACK_COST : FRAME_COST, now)) return
    switch (frame.type) {
      case 'UNKNOWN':
        break
      case 'ACK':
        for (const id of frame.ids) this.acknowledged(id)
        if (this.backlog) this.pump(now)
        break
      case 'PING':
        this.sink.send(this, { type: 'PONG' })
        break
      case 'HELLO':
        this.sink.close(this, 'unexpected_frame', 'a second HELLO')
        break
      case 'BYE':
        this.sink.close(this, 'bye')
        break
      default:
        this.ask(frame)
    }
  }

  /** An ACK of one message, as most are: the same as frame(), without the frame. */
  ack(id: bigint, now: Now): void {
    if (!this.mayRead('ACK', ACK_COST, now)) return
    this.acknowledged(id)
    if (this.backlog) this.pump(now)
  }

  /** A message without a frame: the shortest PING. */
  empty(now: Now): void {
    if (this.mayRead('PING', FRAME_COST, now)) this.sink.answerEmpty(this)
  }

  private mayRead(type: (DeviceFrame | UnknownFrame)['type'], cost: number, now: Now): boolean {
    if (this.state === 'closed') return false
    if (now.tick !== this.heardTick) {
      this.heardTick = now.tick
      this.cost = 0
    }
    // An ACK pays itself back when something waited for it.
    this.cost += cost
    if (this.cost > this.sink.limits.framesPerSecond * FRAME_COST) this.sink.close(this, 'rate_limited')
    else if ((this.state === 'claiming' || this.state === 'reading') && type !== 'UNKNOWN') {
      this.sink.close(this, 'unexpected_frame', `${type} before WELCOME`)
    } else return true
    return false
  }

  private acknowledged(id: bigint): void {
    const entry = takeInFlight(this.inFlight, id)
    this.cost += entry ? -ACK_COST : ACK_COST
    if (!entry) return
    if (entry.router) this.sink.report(this, entry.router, id, Report.ACKED)
    if (entry.queued) for (const queued of entry.queued) this.settle(queued)
  }

  private ask(frame: RequestFrame): void {
    if (this.optional && this.optional.requests >= this.sink.limits.requests) {
      this.sink.send(this, errorFrame('overloaded', 'too many requests under way', frame.request))
      return
    }
    this.toRare().requests++
    this.sink.request(this, frame.request, deviceRequest(this.device, frame))
  }

  // ---- results of what was asked --------------------------------------------------------------

  claimed(revision: number): void {
    this.revision = revision
    if (this.state === 'claiming') this.state = 'reading'
  }

  refused(connection: number): void {
    if (this.state === 'claiming') this.sink.close(this, 'stale_connection', undefined, connection)
  }

  failed(): void {
    if (this.state === 'claiming' || this.state === 'reading') this.sink.close(this, 'unavailable')
  }

  /** The first read after the session was written: greets the device and starts to send what it is owed. */
  welcome(welcome: ServerFrame & { type: 'WELCOME' }, queued: QueueEntry[], now: Now): void {
    if (this.state !== 'reading') return
    this.state = 'behind'
    this.subscriptions = welcome.subscriptions
    this.sink.send(this, welcome)
    this.take(queued, now)
  }

  queueRead(queued: QueueEntry[], now: Now): void {
    if (this.state !== 'behind' || !this.backlog) return
    this.backlog.reading = false
    this.take(queued, now)
  }

  /** Not knowing is not the same as nothing queued: stays behind, and the sweep asks again. */
  queueReadFailed(): void {
    if (!this.backlog) return
    this.backlog.reading = false
    this.backlog.marked = true
    this.backlog.more = true
  }

  replied(frame: ServerFrame): void {
    this.toRare().requests--
    if (this.state !== 'closed') this.sink.send(this, frame)
  }

  /** All groups of the device are live, up to `cursor`. */
  groupsCaughtUp(cursor: Cursor): void {
    this.subscriptions = cursor.subscriptions
    if (this.backlog) this.backlog.caughtUp = cursor
    else if (this.state === 'live') this.sink.send(this, { type: 'CAUGHT_UP', cursor })
  }

  // ---- from the core --------------------------------------------------------------------------

  /** `router` waits for the report. Expiry 0: only now, so that being here in time is all it asks. */
  deliver(item: TxItem, router: string, now: Now): void {
    const known = findInFlight(this.inFlight, item.id)
    if (known) known.router = router
    else if (this.state === 'closed') this.sink.report(this, router, item.id, Report.NOT_HERE)
    else if (isExpired(item, now)) this.sink.report(this, router, item.id, Report.EXPIRED)
    else if (this.optional !== null && this.optional.refusedTick > 0)
      this.sink.report(this, router, item.id, Report.WINDOW_FULL)
    else if (this.backlog) this.hold(item, router, this.backlog, now)
    else if (this.hasRoom()) this.notify(item.id, item.frame, router, null)
    else this.refuse(item, router, now)
  }

  /**
   * A router queued something: read QUEUE before anything more goes live. What is held goes back: the router may have
   * queued it too, out of patience, or something that is older.
   */
  catchUp(now: Now): void {
    const nacked = this.nack(Report.WINDOW_FULL)
    if (nacked || this.optional) this.toRare().refusedTick = nacked ? now.tick : 0
    this.readAgain()
  }

  /** Something may have been queued without a word to this worker. */
  readAgain(): void {
    if (this.optional) this.optional.isUnsettled = false
    switch (this.state) {
      case 'live':
        this.state = 'behind'
        this.backlog = newBacklog()
        this.read(this.backlog)
        return
      case 'reading':
      case 'behind':
        if (!this.backlog) return
        this.backlog.marked = true
        // Else the read follows when what was read before is sent.
        if (this.isAllSent(this.backlog)) this.read(this.backlog)
        return
      // Claiming: the read that follows the claim is still to come.
      default:
        return
    }
  }

  // ---- from the clock -------------------------------------------------------------------------

  /** Now and then (many ticks apart): keeps the deadlines, and lets go of memory that idle sessions do not need. */
  sweep({ tick }: Now, idleTicksMax: number): void {
    if (tick - this.heardTick > idleTicksMax) {
      this.sink.close(this, 'idle')
      return
    }
    if (this.inFlight?.length === 0) this.inFlight = null
    if (this.optional && hasToReadAgain(this.optional, tick)) this.readAgain()
    else if (this.backlog?.marked && this.isAllSent(this.backlog)) this.read(this.backlog)
  }

  /** A settlement found no room, or had to give it up: its record stays, until it is read and acknowledged again. */
  unsettled(): void {
    this.toRare().isUnsettled = true
  }

  /** The connection is gone, or about to be: whoever waits for a report is told. */
  end(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    for (const { id, router } of this.inFlight ?? []) if (router) this.sink.report(this, router, id, Report.CLOSED)
    this.nack(Report.CLOSED)
    this.inFlight = null
    this.backlog = null
    this.outgoing = null
  }

  /** Messages sent and not acknowledged. */
  get unacknowledged(): number {
    return this.inFlight?.length ?? 0
  }

  // ---- inside ---------------------------------------------------------------------------------

  private toRare(): OptionalState {
    this.optional ??= noOptionalState(null)
    return this.optional
  }

  private read(backlog: Backlog): void {
    backlog.reading = true
    backlog.marked = false
    backlog.more = false
    this.sink.readQueue(this)
  }

  private take(queued: QueueEntry[], now: Now): void {
    if (!this.backlog) return
    const unsent = queued.filter((entry) => entry.record.message.expiresAtMs > now.ms && !this.isKnown(entry))
    this.backlog.queued = unsent.slice(0, this.sink.limits.window)
    this.backlog.next = 0
    this.backlog.more = unsent.length > this.backlog.queued.length
    const gap = gapOf(queued, this.optional?.gap ?? null)
    if (gap) {
      this.toRare().gap = gap.mark
      this.sink.send(this, gap)
    }
    this.pump(now)
  }

  /** Sends what is owed, oldest first, as far as the window has room; the last of it makes the session live. */
  private pump(now: Now): void {
    const { backlog } = this
    if (!backlog || backlog.reading || this.state !== 'behind') return
    while (backlog.next < backlog.queued.length) {
      if (!this.hasRoom()) return
      this.sendQueued(backlog.queued[backlog.next++] as QueueEntry)
    }
    if (backlog.marked || backlog.more) {
      if (backlog.marked || this.hasRoom()) this.read(backlog)
      return
    }
    while (backlog.heldNext < backlog.held.length) {
      if (!this.hasRoom()) return
      this.sendHeld(backlog.held[backlog.heldNext++] as Held, now)
    }
    this.goLive(backlog)
  }

  private goLive({ caughtUp }: Backlog): void {
    this.backlog = null
    this.state = 'live'
    if (caughtUp) this.sink.send(this, { type: 'CAUGHT_UP', cursor: caughtUp })
  }

  private sendQueued(entry: QueueEntry): void {
    // Asked again: one message can stand in the queue more than once.
    if (this.isKnown(entry)) return
    this.notify(entry.record.message.id, entry.record.message.frame, '', [refOf(entry)])
  }

  /** True where the device has the message already; then its record only waits for the acknowledgement, or for us. */
  private isKnown(entry: QueueEntry): boolean {
    const { id } = entry.record.message
    const sent = findInFlight(this.inFlight, id)
    if (sent) {
      sent.queued ??= []
      if (!sent.queued.some(({ sequence }) => sequence === entry.sequence)) sent.queued.push(refOf(entry))
      return true
    }
    const isAcknowledged = this.sink.isSettling(this.device, id)
    if (isAcknowledged) this.settle(refOf(entry))
    return isAcknowledged
  }

  private settle(queued: QueueRef): void {
    if (!this.sink.settle(this, queued)) this.unsettled()
  }

  private sendHeld({ item, router }: Held, now: Now): void {
    const known = findInFlight(this.inFlight, item.id)
    if (known) known.router = router
    else if (isExpired(item, now)) this.sink.report(this, router, item.id, Report.EXPIRED)
    else this.notify(item.id, item.frame, router, null)
  }

  private notify(id: bigint, frame: Uint8Array, router: string, queued: QueueRef[] | null): void {
    const entry: InFlight = { id, router, queued }
    if (this.inFlight) this.inFlight.push(entry)
    else this.inFlight = [entry]
    this.sink.forward(this, frame)
  }

  private hold(item: TxItem, router: string, backlog: Backlog, now: Now): void {
    if (backlog.held.length - backlog.heldNext < this.sink.limits.held) backlog.held.push({ item, router })
    else this.refuse(item, router, now)
  }

  /** What is held is refused with it, before it: it is older, and would stand behind it in the queue one day. */
  private refuse(item: TxItem, router: string, now: Now): void {
    this.toRare().refusedTick = now.tick
    this.nack(Report.WINDOW_FULL)
    this.sink.report(this, router, item.id, Report.WINDOW_FULL)
  }

  /** False where nothing was held. */
  private nack(report: ReportCode): boolean {
    const waiting = this.backlog ? takeHeld(this.backlog) : []
    for (const { item, router } of waiting) this.sink.report(this, router, item.id, report)
    return waiting.length > 0
  }

  private isAllSent(backlog: Backlog): boolean {
    return this.state === 'behind' && !backlog.reading && backlog.next >= backlog.queued.length
  }

  private hasRoom(): boolean {
    return this.unacknowledged < this.sink.limits.window
  }
}
