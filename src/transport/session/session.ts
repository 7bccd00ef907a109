/**
 * The session of one device on one connection, without I/O: inputs are method calls, effects go to a SessionSink.
 *
 * Before its HELLO a connection is a Greeting, a type of its own that owns no device and takes nothing but HELLO. The
 * Session begins where HELLO was believed. Groups are not its matter (groups/), except for the CAUGHT_UP that ends both.
 *
 *   state      input                                   next       effects
 *   ---------  --------------------------------------  ---------  ------------------------------------------------
 *   (none)     Greeting believed the HELLO             claiming   the session write is asked for
 *   claiming   claimed(revision)                       reading    PARKED and the device record are asked for
 *   claiming   refused(connection)                     closed     ERROR, close stale_connection
 *   claiming,  any frame                               closed     ERROR, close unexpected_frame
 *     reading  failed()                                closed     ERROR, close unavailable
 *   reading    welcome(parked, ...)                    behind     WELCOME, GAP?, then as behind
 *   not live   deliver(item)                           the same   held; outcome WINDOW_FULL where too much is held
 *   reading,   catchUp()                               the same   marked: what is read now may miss what was parked;
 *     behind                                                      outcome WINDOW_FULL for what is held
 *   behind     (window has room, records left)         behind     NOTIFY of the oldest parked record
 *   behind     (records sent, marked)                  behind     PARKED is asked for again
 *   behind     (no read to come, items held)           behind     NOTIFY of the oldest held item
 *   behind     (nothing left, not marked)              live       CAUGHT_UP, where groups are done too
 *   behind     parkedRead(parked)                      behind     GAP?, NOTIFY as above
 *   live       deliver(item), room                     live       NOTIFY
 *   live       deliver(item), window full              live       outcome WINDOW_FULL, and so for all that follow
 *   live       catchUp()                               behind     PARKED is asked for again
 *   behind,    ACK                                     the same   outcome ACKED or settlement; room in the window
 *     live
 *     "        REGISTER, SUBSCRIBE, ...                the same   the core is asked; REGISTERED, DONE or ERROR
 *     "        PING, or an empty message               the same   PONG, or an empty message
 *     "        BYE                                     closed     close bye
 *   any        end()                                   closed     outcome CLOSED for all in flight and held
 *
 * Order (I3) hangs on three things. Records of the queue go before held items. Once one item was answered WINDOW_FULL, all
 * that are held and all later ones are, until the router that parks them asked for a catch-up (or RESUME_TICKS passed
 * without): so that nothing held is older than what is in the queue. And while a read is to come nothing goes live.
 */
import { Outcome, type OutcomeCode, type TxItem } from '../../../protocol/envelope.js'
import type { Cursor, DeviceFrame, GapMark, ServerFrame, UnknownFrame } from '../../../protocol/frame-types.js'
import type { ParkedEntry } from '../../store/queue.js'
import type { Socket } from '../socket/socket.js'
import { type Arrears, type Held, newArrears, takeHeld } from './backlog.js'
import { gapOf } from './gap.js'
import { findInFlight, type InFlight, takeInFlight } from './in-flight.js'
import { isExpired, type Moment } from './now.js'
import { hasToReadAgain, nothingRare, type Rare } from './optional-state.js'
import { deviceRequest, errorFrame, type RequestFrame } from './requests.js'
import { type ParkedRef, refOf, type SessionSink } from './sink.js'

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
  private arrears: Arrears | null = newArrears()
  /** Of the frames heard in `heardTick`. */
  private cost = 0
  /** Made with the first of it: most sessions never have any. */
  private rare: Rare | null

  constructor(
    readonly socket: Socket,
    readonly device: string,
    /** The device's connection number. */
    readonly connection: number,
    gap: GapMark | null,
    private readonly sink: SessionSink,
    private heardTick: number,
  ) {
    this.rare = gap === null ? null : nothingRare(gap)
  }

  // ---- from the device ------------------------------------------------------------------------

  frame(frame: DeviceFrame | UnknownFrame, now: Moment): void {
    if (!this.mayRead(frame.type, frame.type === 'ACK' ? ACK_COST : FRAME_COST, now)) return
    switch (frame.type) {
      case 'UNKNOWN':
        break
      case 'ACK':
        for (const id of frame.ids) this.acknowledged(id)
        if (this.arrears) this.pump(now)
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
  ack(id: bigint, now: Moment): void {
    if (!this.mayRead('ACK', ACK_COST, now)) return
    this.acknowledged(id)
    if (this.arrears) this.pump(now)
  }

  /** A message without a frame: the shortest PING. */
  empty(now: Moment): void {
    if (this.mayRead('PING', FRAME_COST, now)) this.sink.answerEmpty(this)
  }

  private mayRead(type: (DeviceFrame | UnknownFrame)['type'], cost: number, now: Moment): boolean {
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
    if (entry.router) this.sink.outcome(this, entry.router, id, Outcome.ACKED)
    if (entry.parked) for (const parked of entry.parked) this.settle(parked)
  }

  private ask(frame: RequestFrame): void {
    if (this.rare && this.rare.requests >= this.sink.limits.requests) {
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
  welcome(welcome: ServerFrame & { type: 'WELCOME' }, parked: ParkedEntry[], now: Moment): void {
    if (this.state !== 'reading') return
    this.state = 'behind'
    this.subscriptions = welcome.subscriptions
    this.sink.send(this, welcome)
    this.take(parked, now)
  }

  parkedRead(parked: ParkedEntry[], now: Moment): void {
    if (this.state !== 'behind' || !this.arrears) return
    this.arrears.reading = false
    this.take(parked, now)
  }

  /** Not knowing is not the same as nothing parked: stays behind, and the sweep asks again. */
  parkedReadFailed(): void {
    if (!this.arrears) return
    this.arrears.reading = false
    this.arrears.marked = true
    this.arrears.more = true
  }

  replied(frame: ServerFrame): void {
    this.toRare().requests--
    if (this.state !== 'closed') this.sink.send(this, frame)
  }

  /** All groups of the device are live, up to `cursor`. */
  groupsCaughtUp(cursor: Cursor): void {
    this.subscriptions = cursor.subscriptions
    if (this.arrears) this.arrears.caughtUp = cursor
    else if (this.state === 'live') this.sink.send(this, { type: 'CAUGHT_UP', cursor })
  }

  // ---- from the core --------------------------------------------------------------------------

  /** `router` waits for the outcome. Expiry 0: only now, so that being here in time is all it asks. */
  deliver(item: TxItem, router: string, now: Moment): void {
    const known = findInFlight(this.inFlight, item.id)
    if (known) known.router = router
    else if (this.state === 'closed') this.sink.outcome(this, router, item.id, Outcome.NOT_HERE)
    else if (isExpired(item, now)) this.sink.outcome(this, router, item.id, Outcome.EXPIRED)
    else if (this.rare !== null && this.rare.refusedTick > 0)
      this.sink.outcome(this, router, item.id, Outcome.WINDOW_FULL)
    else if (this.arrears) this.hold(item, router, this.arrears, now)
    else if (this.hasRoom()) this.notify(item.id, item.frame, router, null)
    else this.refuse(item, router, now)
  }

  /**
   * A router parked something: read PARKED before anything more goes live. What is held goes back: the router may have
   * parked it too, out of patience, or something that is older.
   */
  catchUp(now: Moment): void {
    const gaveBack = this.giveBack(Outcome.WINDOW_FULL)
    if (gaveBack || this.rare) this.toRare().refusedTick = gaveBack ? now.tick : 0
    this.readAgain()
  }

  /** Something may have been parked without a word to this worker. */
  readAgain(): void {
    if (this.rare) this.rare.isUnsettled = false
    switch (this.state) {
      case 'live':
        this.state = 'behind'
        this.arrears = newArrears()
        this.read(this.arrears)
        return
      case 'reading':
      case 'behind':
        if (!this.arrears) return
        this.arrears.marked = true
        // Else the read follows when what was read before is sent.
        if (this.isAllSent(this.arrears)) this.read(this.arrears)
        return
      // Claiming: the read that follows the claim is still to come.
      default:
        return
    }
  }

  // ---- from the clock -------------------------------------------------------------------------

  /** Now and then (many ticks apart): keeps the deadlines, and lets go of memory that idle sessions do not need. */
  sweep({ tick }: Moment, idleTicksMax: number): void {
    if (tick - this.heardTick > idleTicksMax) {
      this.sink.close(this, 'idle')
      return
    }
    if (this.inFlight?.length === 0) this.inFlight = null
    if (this.rare && hasToReadAgain(this.rare, tick)) this.readAgain()
    else if (this.arrears?.marked && this.isAllSent(this.arrears)) this.read(this.arrears)
  }

  /** A settlement found no room, or had to give it up: its record stays, until it is read and acknowledged again. */
  unsettled(): void {
    this.toRare().isUnsettled = true
  }

  /** The connection is gone, or about to be: whoever waits for an outcome is told. */
  end(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    for (const { id, router } of this.inFlight ?? []) if (router) this.sink.outcome(this, router, id, Outcome.CLOSED)
    this.giveBack(Outcome.CLOSED)
    this.inFlight = null
    this.arrears = null
    this.outgoing = null
  }

  /** Messages sent and not acknowledged. */
  get unacknowledged(): number {
    return this.inFlight?.length ?? 0
  }

  // ---- inside ---------------------------------------------------------------------------------

  private toRare(): Rare {
    this.rare ??= nothingRare(null)
    return this.rare
  }

  private read(arrears: Arrears): void {
    arrears.reading = true
    arrears.marked = false
    arrears.more = false
    this.sink.readParked(this)
  }

  private take(parked: ParkedEntry[], now: Moment): void {
    if (!this.arrears) return
    const unsent = parked.filter((entry) => entry.record.message.expiresAtMs > now.ms && !this.isKnown(entry))
    this.arrears.parked = unsent.slice(0, this.sink.limits.window)
    this.arrears.next = 0
    this.arrears.more = unsent.length > this.arrears.parked.length
    const gap = gapOf(parked, this.rare?.gap ?? null)
    if (gap) {
      this.toRare().gap = gap.mark
      this.sink.send(this, gap)
    }
    this.pump(now)
  }

  /** Sends what is owed, oldest first, as far as the window has room; the last of it makes the session live. */
  private pump(now: Moment): void {
    const { arrears } = this
    if (!arrears || arrears.reading || this.state !== 'behind') return
    while (arrears.next < arrears.parked.length) {
      if (!this.hasRoom()) return
      this.sendParked(arrears.parked[arrears.next++] as ParkedEntry)
    }
    if (arrears.marked || arrears.more) {
      if (arrears.marked || this.hasRoom()) this.read(arrears)
      return
    }
    while (arrears.heldNext < arrears.held.length) {
      if (!this.hasRoom()) return
      this.sendHeld(arrears.held[arrears.heldNext++] as Held, now)
    }
    this.goLive(arrears)
  }

  private goLive({ caughtUp }: Arrears): void {
    this.arrears = null
    this.state = 'live'
    if (caughtUp) this.sink.send(this, { type: 'CAUGHT_UP', cursor: caughtUp })
  }

  private sendParked(entry: ParkedEntry): void {
    // Asked again: one message can stand in the queue more than once.
    if (this.isKnown(entry)) return
    this.notify(entry.record.message.id, entry.record.message.frame, '', [refOf(entry)])
  }

  /** True where the device has the message already; then its record only waits for the acknowledgement, or for us. */
  private isKnown(entry: ParkedEntry): boolean {
    const { id } = entry.record.message
    const sent = findInFlight(this.inFlight, id)
    if (sent) {
      sent.parked ??= []
      if (!sent.parked.some(({ sequence }) => sequence === entry.sequence)) sent.parked.push(refOf(entry))
      return true
    }
    const isAcknowledged = this.sink.isSettling(this.device, id)
    if (isAcknowledged) this.settle(refOf(entry))
    return isAcknowledged
  }

  private settle(parked: ParkedRef): void {
    if (!this.sink.settle(this, parked)) this.unsettled()
  }

  private sendHeld({ item, router }: Held, now: Moment): void {
    const known = findInFlight(this.inFlight, item.id)
    if (known) known.router = router
    else if (isExpired(item, now)) this.sink.outcome(this, router, item.id, Outcome.EXPIRED)
    else this.notify(item.id, item.frame, router, null)
  }

  private notify(id: bigint, frame: Uint8Array, router: string, parked: ParkedRef[] | null): void {
    const entry: InFlight = { id, router, parked }
    if (this.inFlight) this.inFlight.push(entry)
    else this.inFlight = [entry]
    this.sink.forward(this, frame)
  }

  private hold(item: TxItem, router: string, arrears: Arrears, now: Moment): void {
    if (arrears.held.length - arrears.heldNext < this.sink.limits.held) arrears.held.push({ item, router })
    else this.refuse(item, router, now)
  }

  /** What is held is refused with it, before it: it is older, and would stand behind it in the queue one day. */
  private refuse(item: TxItem, router: string, now: Moment): void {
    this.toRare().refusedTick = now.tick
    this.giveBack(Outcome.WINDOW_FULL)
    this.sink.outcome(this, router, item.id, Outcome.WINDOW_FULL)
  }

  /** False where nothing was held. */
  private giveBack(outcome: OutcomeCode): boolean {
    const waiting = this.arrears ? takeHeld(this.arrears) : []
    for (const { item, router } of waiting) this.sink.outcome(this, router, item.id, outcome)
    return waiting.length > 0
  }

  private isAllSent(arrears: Arrears): boolean {
    return this.state === 'behind' && !arrears.reading && arrears.next >= arrears.parked.length
  }

  private hasRoom(): boolean {
    return this.unacknowledged < this.sink.limits.window
  }
}
