/**
 * The session of one device on one connection, as a state machine without I/O. Its inputs are method calls; its effects
 * are calls of a SessionSink.
 *
 * Before HELLO a connection is a Greeting (admission/greeting.ts), which belongs to no device and accepts only HELLO.
 * The session begins when the credential in HELLO is verified. Group messages are the matter of groups/; the session
 * only sends the CAUGHT_UP that tells the device that both its queue and its groups are up to date.
 *
 *   state      input                                   next       effects
 *   ---------  --------------------------------------  ---------  ------------------------------------------------
 *   (none)     HELLO verified                          claiming   write the session record
 *   claiming   claimed(revision)                       reading    read QUEUE and the device record
 *   claiming   claimRefused(reason, connection)        closed     ERROR, close with that reason
 *   claiming,  any frame                               closed     ERROR, close unexpected_frame
 *     reading  claimFailed()                           closed     ERROR, close unavailable
 *   reading    welcome(queued, ...)                    behind     WELCOME, GAP?, then as in behind
 *   any        deliver(item), registration ended       the same   report ENDED
 *   not live   deliver(item)                           the same   hold it; report WINDOW_FULL if too many are held
 *   reading,   catchUp()                               the same   read again later: the present read may be too old;
 *     behind                                                      report WINDOW_FULL for all held items
 *   behind     (window has room, records left)         behind     NOTIFY of the oldest queued record
 *   behind     (records sent, a read is due)           behind     read QUEUE again
 *   behind     (no read is due, items held)            behind     NOTIFY of the oldest held item
 *   behind     (nothing left, no read is due)          live       CAUGHT_UP if the groups are up to date too
 *   behind     queueRead(queued)                       behind     GAP?, NOTIFY as above
 *   live       deliver(item), window has room          live       NOTIFY
 *   live       deliver(item), window full              live       report WINDOW_FULL, and so for all that follow
 *   live       catchUp()                               behind     read QUEUE
 *   behind,    ACK                                     the same   report ACKED, or settle; the window has room again
 *     live
 *     "        REGISTER, SUBSCRIBE, ...                the same   ask the core; REGISTERED, DONE or ERROR
 *     "        PING, or an empty message               the same   PONG, or an empty message
 *     "        BYE                                     closed     close bye
 *   any        end()                                   closed     report CLOSED for all in flight and held
 *
 * Three rules keep the order of the messages (I3):
 * - Queued records are sent before held items.
 * - After the first report WINDOW_FULL the session reports it for all held and all later items, until the router that
 *   enqueues them asks for a catch-up, or RESUME_TICKS pass without one. So no held item is older than a queued record.
 * - The session does not go live while a read of QUEUE is due.
 */

import type { CloseName } from '../../../protocol/close-codes.js'
import { type DeviceRequest, Report, type ReportCode, type TxItem } from '../../../protocol/envelope.js'
import type {
  Cursor,
  DeviceFrame,
  GapFrame,
  GapMark,
  ServerFrame,
  UnknownFrame,
} from '../../../protocol/frame-types.js'
import { registrationOfNotify } from '../../../protocol/notify-registration.js'
import type { DeviceRecord } from '../../store/devices.js'
import type { QueueEntry } from '../../store/queue.js'
import type { Socket } from '../socket/socket.js'
import { type Backlog, type HeldItem, newBacklog, takeHeld } from './backlog.js'
import { findInFlight, type InFlightMessage, type QueueRef, queueRefOf, takeInFlight } from './in-flight.js'
import type { Now } from './now.js'
import { hasToReadAgain, newOptionalState, type OptionalState } from './optional-state.js'
import { deviceRequestOf, errorFrame, type RequestFrame } from './requests.js'

export interface SessionLimits {
  window: number
  held: number
  requests: number
  framesPerSecond: number
}

/** The effects of a session. Each call returns at once; its result, if any, comes as an input in a later turn. */
export interface SessionSink {
  readonly limits: SessionLimits
  /** Sends a frame that is encoded already. */
  forward(session: Session, frame: Uint8Array): void
  send(session: Session, frame: ServerFrame): void
  /** Answers an empty message with an empty message. */
  answerEmpty(session: Session): void
  /** Sends an ERROR frame and closes the connection. Calls `end` of the session before it returns. */
  close(session: Session, reason: CloseName, detail?: string, connection?: number): void
  report(session: Session, router: string, id: bigint, report: ReportCode): void
  /** The device acknowledged a queued message. Returns false if there is no room to remember its settlement. */
  settle(session: Session, queued: QueueRef): boolean
  /**
   * True from the acknowledgement of a queued message until its record is deleted and no read under way can return it
   * any more. In that time the message must not be sent again.
   */
  isSettling(device: string, id: bigint): boolean
  /** The result comes as queueRead or queueReadFailed. */
  readQueue(session: Session): void
  /** The result comes as `replied`. */
  request(session: Session, requestNumber: number, request: DeviceRequest): void
}

export type SessionState = 'claiming' | 'reading' | 'behind' | 'live' | 'closed'

/**
 * Costs of frames relative to the rate limit. An ACK is cheap, because the device has to send one for each message. Its
 * cost is returned for an id that is in flight, and doubled for any other id: an ACK can carry 2,000 foreign ids.
 */
const FRAME_COST = 20
const ACK_COST = 1

/** What the session keeps of the record of a device. */
type RegistrationsOfDevice = Pick<DeviceRecord, 'nextNumber' | 'registrations'>

interface RegistrationNumbers {
  /** Numbers below it were given. */
  next: number
  live: number[]
}

/** A number that the record does not know yet is not one that ended. */
function isForEnded({ frame }: TxItem, { next, live }: RegistrationNumbers): boolean {
  const number = registrationOfNotify(frame)
  return number > 0 && number < next && !live.includes(number)
}

export class Session {
  state: SessionState = 'claiming'
  /** Revision of the session record in the table; 0: not written yet. */
  revision = 0
  /** The version of the device's subscriptions that the worker follows. */
  subscriptions = 0
  /** When its device token was issued; 0: not known. */
  tokenIssuedAtMs = 0
  /** When its device token ends; Infinity: not known. */
  tokenEndsAtMs = Number.POSITIVE_INFINITY
  /** The fleet of the device; empty: not known. */
  fleet = ''
  /** Which registration numbers of the device have ended; null: none, as of most devices. */
  private numbers: RegistrationNumbers | null = null
  /** The frames of this turn; the outbox sends them at its end. */
  outgoing: Uint8Array | Uint8Array[] | null = null

  private inFlight: InFlightMessage[] | null = null
  private backlog: Backlog | null = newBacklog()
  /** The cost of the frames that came in the tick `heardTick`. */
  private cost = 0
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
    this.optional = gap === null ? null : newOptionalState(gap)
  }

  // ---- inputs from the device -----------------------------------------------------------------

  frame(frame: DeviceFrame | UnknownFrame, now: Now): void {
    if (!this.isAllowed(frame.type, frame.type === 'ACK' ? ACK_COST : FRAME_COST, now)) return
    switch (frame.type) {
      case 'UNKNOWN':
        break
      case 'ACK':
        for (const id of frame.ids) this.acknowledge(id)
        if (this.backlog) this.sendBacklog(now)
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
        this.askCore(frame)
    }
  }

  /** The same as `frame` for an ACK with one id, the most frequent frame, without a frame object. */
  ack(id: bigint, now: Now): void {
    if (!this.isAllowed('ACK', ACK_COST, now)) return
    this.acknowledge(id)
    if (this.backlog) this.sendBacklog(now)
  }

  /** A WebSocket message without a frame: the shortest form of PING. */
  emptyMessage(now: Now): void {
    if (this.isAllowed('PING', FRAME_COST, now)) this.sink.answerEmpty(this)
  }

  /** False if the frame is to be ignored. A frame that breaks the rate limit or comes too early closes the session. */
  private isAllowed(type: (DeviceFrame | UnknownFrame)['type'], cost: number, now: Now): boolean {
    if (this.state === 'closed') return false
    if (now.tick !== this.heardTick) {
      this.heardTick = now.tick
      this.cost = 0
    }
    this.cost += cost
    if (this.cost > this.sink.limits.framesPerSecond * FRAME_COST) this.sink.close(this, 'rate_limited')
    else if ((this.state === 'claiming' || this.state === 'reading') && type !== 'UNKNOWN') {
      this.sink.close(this, 'unexpected_frame', `${type} before WELCOME`)
    } else return true
    return false
  }

  private acknowledge(id: bigint): void {
    const message = takeInFlight(this.inFlight, id)
    this.cost += message ? -ACK_COST : ACK_COST
    if (!message) return
    if (message.router) this.sink.report(this, message.router, id, Report.ACKED)
    if (message.queued) for (const queued of message.queued) this.settle(queued)
  }

  private askCore(frame: RequestFrame): void {
    if (this.optional && this.optional.requests >= this.sink.limits.requests) {
      this.sink.send(this, errorFrame('overloaded', 'too many requests under way', frame.request))
      return
    }
    this.ensureOptional().requests++
    this.sink.request(this, frame.request, deviceRequestOf(this.device, this.fleet, frame))
  }

  // ---- inputs from the handshake and from reads -------------------------------------------------

  /** The session record is written. */
  claimed(revision: number): void {
    this.revision = revision
    if (this.state === 'claiming') this.state = 'reading'
  }

  /** The session of the device in the table comes before this one no more; `connection` is its number. */
  claimRefused(reason: CloseName, connection: number): void {
    if (this.state === 'claiming') this.sink.close(this, reason, undefined, connection)
  }

  /** The store failed before WELCOME. */
  claimFailed(): void {
    if (this.state === 'claiming' || this.state === 'reading') this.sink.close(this, 'unavailable')
  }

  /** `queued` is the first read of QUEUE after the session record was written. */
  welcome(welcome: ServerFrame & { type: 'WELCOME' }, queued: QueueEntry[], now: Now): void {
    if (this.state !== 'reading') return
    this.state = 'behind'
    this.subscriptions = welcome.subscriptions
    this.sink.send(this, welcome)
    this.fillBacklog(queued, now)
  }

  /**
   * The record of the device was read. A number that was given and is not in it has ended for good, so an older record than the
   * last one says nothing wrong.
   */
  registered({ nextNumber, registrations }: RegistrationsOfDevice): void {
    const anyEnded = registrations.length < nextNumber - 1
    this.numbers = anyEnded ? { next: nextNumber, live: registrations.map(({ number }) => number) } : null
  }

  queueRead(queued: QueueEntry[], now: Now): void {
    if (this.state !== 'behind' || !this.backlog) return
    this.backlog.isReading = false
    this.fillBacklog(queued, now)
  }

  /** After a failed read the queue may still have records: the session stays behind, and the sweep reads again. */
  queueReadFailed(): void {
    if (!this.backlog) return
    this.backlog.isReading = false
    this.backlog.isReadDue = true
    this.backlog.isPartial = true
  }

  /** The core answered a request of the device; `frame` is the answer for the device. */
  replied(frame: ServerFrame): void {
    this.ensureOptional().requests--
    if (this.state !== 'closed') this.sink.send(this, frame)
  }

  /** All groups of the device are live, and it has their messages up to `cursor`. */
  groupsCaughtUp(cursor: Cursor): void {
    this.subscriptions = cursor.subscriptions
    if (this.backlog) this.backlog.groupCursor = cursor
    else if (this.state === 'live') this.sink.send(this, { type: 'CAUGHT_UP', cursor })
  }

  // ---- inputs from the core -------------------------------------------------------------------

  /**
   * `router` waits for a report about the item.
   * @param endsSteadyMs when the life of the item ends, by the steady clock of this worker.
   */
  deliver(item: TxItem, endsSteadyMs: number, router: string, now: Now): void {
    const sent = findInFlight(this.inFlight, item.id)
    if (sent) sent.router = router
    else if (this.state === 'closed') this.sink.report(this, router, item.id, Report.NOT_HERE)
    else if (endsSteadyMs <= now.steadyMs) this.sink.report(this, router, item.id, Report.EXPIRED)
    else if (this.numbers !== null && isForEnded(item, this.numbers))
      this.sink.report(this, router, item.id, Report.ENDED)
    else if (this.optional !== null && this.optional.refusedTick > 0)
      this.sink.report(this, router, item.id, Report.WINDOW_FULL)
    else if (this.backlog) this.hold({ item, router, endsSteadyMs }, this.backlog, now)
    else if (this.hasRoom()) this.notify(item.id, item.frame, router, null)
    else this.refuse(item, router, now)
  }

  /**
   * A router has appended a message to the queue: the session must read QUEUE before it goes live again. The held items
   * return to their routers. A router that lost patience may have enqueued one of them, or the appended message may be
   * older than they are.
   */
  catchUp(now: Now): void {
    const hasReturned = this.returnHeld(Report.WINDOW_FULL)
    if (hasReturned || this.optional) this.ensureOptional().refusedTick = hasReturned ? now.tick : 0
    this.readAgain()
  }

  /** A router may have enqueued a message without asking this worker for a catch-up. */
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
        this.backlog.isReadDue = true
        // Records of the last read are still to be sent: sendBacklog() reads after them.
        if (this.isQueueSent(this.backlog)) this.read(this.backlog)
        return
      // In `claiming` the first read is still to come.
      default:
        return
    }
  }

  // ---- inputs from the clock ------------------------------------------------------------------

  /** Called every few ticks. Closes a silent connection and one whose token has ended, repeats failed reads, frees memory of an idle session. */
  sweep({ ms, tick }: Now, idleTicksMax: number): void {
    if (tick - this.heardTick > idleTicksMax) {
      this.sink.close(this, 'idle')
      return
    }
    if (ms >= this.tokenEndsAtMs) {
      this.sink.close(this, 'token_expired')
      return
    }
    if (this.inFlight?.length === 0) this.inFlight = null
    if (this.optional && hasToReadAgain(this.optional, tick)) this.readAgain()
    else if (this.backlog?.isReadDue && this.isQueueSent(this.backlog)) this.read(this.backlog)
  }

  /** See OptionalState.isUnsettled. */
  markUnsettled(): void {
    this.ensureOptional().isUnsettled = true
  }

  /** The connection is gone or is about to be closed: each router that waits for a report gets one. */
  end(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    for (const { id, router } of this.inFlight ?? []) if (router) this.sink.report(this, router, id, Report.CLOSED)
    this.returnHeld(Report.CLOSED)
    this.inFlight = null
    this.backlog = null
    this.outgoing = null
  }

  /** The number of messages that were sent and are not acknowledged. */
  get unacknowledged(): number {
    return this.inFlight?.length ?? 0
  }

  // ---- internal -------------------------------------------------------------------------------

  private ensureOptional(): OptionalState {
    this.optional ??= newOptionalState(null)
    return this.optional
  }

  private read(backlog: Backlog): void {
    backlog.isReading = true
    backlog.isReadDue = false
    backlog.isPartial = false
    this.sink.readQueue(this)
  }

  private fillBacklog(queued: QueueEntry[], now: Now): void {
    if (!this.backlog) return
    const unsent = queued.filter((entry) => entry.record.message.expiresAtMs > now.ms && !this.isDuplicate(entry))
    this.backlog.queued = unsent.slice(0, this.sink.limits.window)
    this.backlog.queuedNext = 0
    this.backlog.isPartial = unsent.length > this.backlog.queued.length
    const gap = gapOf(queued, this.optional?.gap ?? null)
    if (gap) {
      this.ensureOptional().gap = gap.mark
      this.sink.send(this, gap)
    }
    this.sendBacklog(now)
  }

  /** Sends queued records, then held items, oldest first, while the window has room. Goes live after the last one. */
  private sendBacklog(now: Now): void {
    const { backlog } = this
    if (!backlog || backlog.isReading || this.state !== 'behind') return
    while (backlog.queuedNext < backlog.queued.length) {
      if (!this.hasRoom()) return
      this.sendQueued(backlog.queued[backlog.queuedNext++] as QueueEntry)
    }
    if (backlog.isReadDue || backlog.isPartial) {
      if (backlog.isReadDue || this.hasRoom()) this.read(backlog)
      return
    }
    while (backlog.heldNext < backlog.held.length) {
      if (!this.hasRoom()) return
      this.sendHeld(backlog.held[backlog.heldNext++] as HeldItem, now)
    }
    this.goLive(backlog)
  }

  private goLive({ groupCursor }: Backlog): void {
    this.backlog = null
    this.state = 'live'
    if (groupCursor) this.sink.send(this, { type: 'CAUGHT_UP', cursor: groupCursor })
  }

  private sendQueued(entry: QueueEntry): void {
    // Checked again: the record sent just before this one can be a copy of the same message.
    if (this.isDuplicate(entry)) return
    this.notify(entry.record.message.id, entry.record.message.frame, '', [queueRefOf(entry)])
  }

  /**
   * True if the message was sent to the device already. Then its record is settled with the acknowledgement: with the
   * one that is to come, or at once if the device has acknowledged it.
   */
  private isDuplicate(entry: QueueEntry): boolean {
    const { id } = entry.record.message
    const sent = findInFlight(this.inFlight, id)
    if (sent) {
      sent.queued ??= []
      if (!sent.queued.some(({ sequence }) => sequence === entry.sequence)) sent.queued.push(queueRefOf(entry))
      return true
    }
    const isAcknowledged = this.sink.isSettling(this.device, id)
    if (isAcknowledged) this.settle(queueRefOf(entry))
    return isAcknowledged
  }

  private settle(queued: QueueRef): void {
    if (!this.sink.settle(this, queued)) this.markUnsettled()
  }

  private sendHeld({ item, router, endsSteadyMs }: HeldItem, now: Now): void {
    const sent = findInFlight(this.inFlight, item.id)
    if (sent) sent.router = router
    else if (endsSteadyMs <= now.steadyMs) this.sink.report(this, router, item.id, Report.EXPIRED)
    else if (this.numbers !== null && isForEnded(item, this.numbers))
      this.sink.report(this, router, item.id, Report.ENDED)
    else this.notify(item.id, item.frame, router, null)
  }

  private notify(id: bigint, frame: Uint8Array, router: string, queued: QueueRef[] | null): void {
    const message: InFlightMessage = { id, router, queued }
    if (this.inFlight) this.inFlight.push(message)
    else this.inFlight = [message]
    this.sink.forward(this, frame)
  }

  private hold(held: HeldItem, backlog: Backlog, now: Now): void {
    if (backlog.held.length - backlog.heldNext < this.sink.limits.held) backlog.held.push(held)
    else this.refuse(held.item, held.router, now)
  }

  /**
   * Refuses the held items too. They are older than this item and would be enqueued behind it if they were refused
   * later.
   */
  private refuse(item: TxItem, router: string, now: Now): void {
    this.ensureOptional().refusedTick = now.tick
    this.returnHeld(Report.WINDOW_FULL)
    this.sink.report(this, router, item.id, Report.WINDOW_FULL)
  }

  /** Reports all held items to their routers, which enqueue them. Returns false if no item was held. */
  private returnHeld(report: ReportCode): boolean {
    const waiting = this.backlog ? takeHeld(this.backlog) : []
    for (const { item, router } of waiting) this.sink.report(this, router, item.id, report)
    return waiting.length > 0
  }

  private isQueueSent(backlog: Backlog): boolean {
    return this.state === 'behind' && !backlog.isReading && backlog.queuedNext >= backlog.queued.length
  }

  private hasRoom(): boolean {
    return this.unacknowledged < this.sink.limits.window
  }
}

/**
 * The GAP for messages that an overflowed queue has dropped since the GAP that the device knows; null: none was dropped
 * since. The newest record of a queue has the number of all drops. PROTOCOL.md section "GAP".
 */
function gapOf(queued: readonly QueueEntry[], known: GapMark | null): (GapFrame & { mark: GapMark }) | null {
  const newest = queued.at(-1)?.record
  if (!newest) return null
  const knownCount = known?.queue === newest.queue ? known.count : 0
  if (newest.dropped <= knownCount) return null
  const mark = { queue: newest.queue, count: newest.dropped }
  return { type: 'GAP', count: newest.dropped - knownCount, reason: 'queue_overflow', mark }
}
