/**
 * Group messages (topics, applications, users) for all sessions of a worker.
 *
 * The room `groups`: a worker tails the log of group messages (group-log.ts) and publishes each message to the
 * subscribed sockets at once. A device that connects first catches up from its cursor (starts.ts, follower.ts); this
 * file runs the catch-ups, and repeats them for new groups when the subscriptions of a device change.
 */
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import { sleep } from '../../clock.js'
import type { Log } from '../../nats/broker.js'
import { type DeviceRecord, type DeviceStore, groupsOf } from '../../store/devices.js'
import { Limiter } from '../limiter.js'
import type { Session } from '../session/session.js'
import type { Sockets } from '../socket/socket.js'
import { Audiences, subjectOf } from './audiences.js'
import { Follower, type FollowerParts } from './follower.js'
import { frameOf, GroupLog, type GroupMessage } from './group-log.js'
import { LogCheck, type LogCheckParts } from './log-check.js'
import type { Receipts } from './receipts.js'
import { type Starts, startsOf } from './starts.js'

export interface GroupsOptions {
  cacheBytesMax: number
  topicsMax: number
  catchUpsMax: number
  bufferedBytesMax: number
  /** A socket that takes none of its buffered bytes for this long is closed. */
  stalledMs: number
}

export interface GroupsParts extends LogCheckParts {
  sockets: Sockets
  devices: DeviceStore
  receipts: Receipts
  turn(work: () => void): void
  /** Sends a frame that is encoded already to one device. */
  forward(session: Session, frame: Uint8Array): void
  sendFrame(session: Session, frame: ServerFrame): void
  /** Closes the session because its catch-up failed: the device returns with its cursor. */
  closeUnavailable(session: Session): void
  /** Closes the session because its device does not read. */
  closeTooSlow(session: Session): void
  /** One frame was published to this number of subscribers. */
  onPublished(subscribers: number, frameBytes: number): void
}

/** The catch-up, or the look for changed subscriptions, that is under way for one session. */
interface CatchUp {
  /** The subscriptions changed meanwhile: they have to be read again before the device is told that it is caught up. */
  mustRefresh: boolean
  /** The catch-up waits for the socket or for the tail. */
  wait: Wait | null
  /** Null while no message is sent. */
  follower: Follower | null
  /** The groups of the newest record that was read, by subject. An older record must not bring a group back. */
  staying: { version: number; subjects: ReadonlySet<string> } | null
}

interface Wait {
  resume(): void
  /** The socket took some of its buffered bytes. */
  drained(): void
}

/** Delay until subscriptions that could not be read are read again. */
const RETRY_MS = 1_000

export class Groups {
  readonly log: GroupLog
  private readonly audiences = new Audiences()
  private readonly catchUps = new Map<Session, CatchUp>()
  /** Sessions to refresh after WELCOME: their subscriptions changed while the handshake may have read the old ones. */
  private readonly refreshAfterWelcome = new WeakSet<Session>()
  /** Sessions whose subscriptions may have changed and could not be read. */
  private readonly toRetry = new Set<Session>()
  private cancelRetry: (() => void) | null = null
  private readonly limiter: Limiter
  /** Catch-ups that wait for the tail, with the sequence that it has to reach. */
  private readonly waitingForTail = new Map<Wait, number>()
  private readonly followerParts: FollowerParts
  private readonly logCheck: LogCheck

  constructor(
    log: Log,
    private readonly parts: GroupsParts,
    private readonly options: GroupsOptions,
  ) {
    this.limiter = new Limiter(options.catchUpsMax)
    this.log = new GroupLog(log, {
      cacheBytesMax: options.cacheBytesMax,
      topicsMax: options.topicsMax,
      onMessage: (message) => this.publish(message),
      onProgress: () => this.resumeReached(),
      onError: parts.onError,
    })
    this.logCheck = new LogCheck(this.log, parts)
    this.followerParts = {
      log: this.log,
      turn: parts.turn,
      sendMessage: (session, message, registrations) => this.sendMessage(session, message, registrations),
      join: ({ socket }, subject, registrations) => socket.subscribe(this.audiences.topicOf(subject, registrations)),
      sendFrame: parts.sendFrame,
      isFull: (session) => this.isFull(session),
      untilWritable: (session) => this.untilWritable(session),
      untilReached: (session, sequence) => this.untilReached(session, sequence),
    }
  }

  start(): Promise<void> {
    return this.log.start()
  }

  /** The worker has reconnected to NATS, where the log may have been replaced. */
  reconnected(): void {
    this.logCheck.check()
  }

  async stop(): Promise<void> {
    this.cancelRetry?.()
    await this.logCheck.stop()
    await this.log.stop()
    for (const session of this.catchUps.keys()) this.ended(session)
  }

  /** Called after WELCOME: brings the device from its cursor to live, in the same turn if memory has all it misses. */
  follow(session: Session, record: DeviceRecord, cursor: Cursor | null): void {
    this.followFrom(session, record, cursor)
    if (this.refreshAfterWelcome.delete(session)) this.refresh(session)
  }

  private followFrom(session: Session, record: DeviceRecord, cursor: Cursor | null): void {
    const groups = groupsOf(record)
    const furthest = Math.max(cursor?.sequence ?? 0, ...groups.map(({ since }) => since))
    if (furthest <= this.log.position) {
      const starts = startsOf(groups, cursor, { incarnation: this.log.incarnation, last: this.log.position })
      this.begin(session, record, starts)
      return
    }
    // Either the tail is behind, or the cursor is of another log. Only the log itself knows its last sequence.
    void this.catchUp(session, async (catchUp) => {
      const { lastSequence } = await this.log.bounds()
      const starts = startsOf(groups, cursor, { incarnation: this.log.incarnation, last: lastSequence })
      this.sendGap(session, starts)
      await this.bringLive(session, catchUp, record, starts.after)
    })
  }

  private begin(session: Session, record: DeviceRecord, starts: Starts): void {
    this.sendGap(session, starts)
    const { incarnation } = this.log
    if (starts.after.size === 0 || this.followerOf(session, record, starts.after).tryNow()) {
      session.groupsCaughtUp({ incarnation, sequence: this.log.position, subscriptions: record.version })
      return
    }
    void this.catchUp(session, (catchUp) => this.bringLive(session, catchUp, record, starts.after))
  }

  private sendGap(session: Session, { gap }: Starts): void {
    if (gap) this.parts.turn(() => this.parts.sendFrame(session, { type: 'GAP', count: 0, reason: gap, mark: null }))
  }

  /** The subscriptions of the device changed, or may have: reads them and follows the new ones. */
  refresh(session: Session): void {
    const catchUp = this.catchUps.get(session)
    if (catchUp) catchUp.mustRefresh = true
    else if (session.state === 'behind' || session.state === 'live') {
      void this.catchUp(session, (own) => this.followChanges(session, own))
    } else if (session.state !== 'closed') this.refreshAfterWelcome.add(session)
  }

  /**
   * Leaves the groups that the device has no more. Resolves when no message of them can reach the device any more; with
   * false if the record of the device cannot be read.
   */
  async leave(session: Session): Promise<boolean> {
    const record = await this.recordOf(session)
    if (record !== null) this.leaveOthers(session, record)
    return record !== null
  }

  /** The socket took some of its buffered bytes. */
  drained(session: Session): void {
    this.catchUps.get(session)?.wait?.drained()
  }

  /** The session has ended. */
  ended(session: Session): void {
    this.toRetry.delete(session)
    this.catchUps.get(session)?.wait?.resume()
  }

  private async catchUp(session: Session, work: (catchUp: CatchUp) => Promise<void>): Promise<void> {
    const catchUp: CatchUp = { mustRefresh: false, wait: null, follower: null, staying: null }
    this.catchUps.set(session, catchUp)
    try {
      await this.limiter.run(() => work(catchUp))
    } catch (error) {
      this.parts.onError('catch-up of groups', error)
      this.parts.turn(() => this.parts.closeUnavailable(session))
    } finally {
      this.catchUps.delete(session)
    }
    // The notice came after the last read of the subscriptions, or during a read that may have seen them before the
    // change.
    if (catchUp.mustRefresh) this.refresh(session)
  }

  private async followChanges(session: Session, catchUp: CatchUp): Promise<void> {
    const record = await this.recordOf(session)
    if (record !== null) session.registered(record)
    if (record === null || record.version === session.subscriptions || session.state === 'closed') return
    await this.bringLive(session, catchUp, record, await this.applyChanges(session, record))
  }

  /**
   * Null if the record cannot be read now. The device keeps its connection and its old groups, and the record is read
   * again after a delay: a slow store must not get the load of a new handshake too.
   */
  private async recordOf(session: Session): Promise<DeviceRecord | null> {
    try {
      return await this.parts.devices.read(session.device, { authoritative: true })
    } catch (error) {
      this.parts.onError('read of the subscriptions of a device', error)
      this.toRetry.add(session)
      this.cancelRetry ??= this.parts.clock.after(RETRY_MS, () => this.retry())
      return null
    }
  }

  private retry(): void {
    this.cancelRetry = null
    const sessions = [...this.toRetry]
    this.toRetry.clear()
    for (const session of sessions) this.refresh(session)
  }

  /** Leaves the groups that the device has no more. Returns where each new group starts. */
  private async applyChanges(session: Session, record: DeviceRecord): Promise<ReadonlyMap<string, number>> {
    const joined = this.leaveOthers(session, record)
    const added = groupsOf(record).filter(({ subject }) => !joined.has(subject))
    const { lastSequence } = await this.log.bounds()
    return startsOf(added, null, { incarnation: this.log.incarnation, last: lastSequence }).after
  }

  /**
   * Leaves all groups but those of the record. In a group that stays, the device may have other registrations than before:
   * it changes its topic within this turn, so no message is missed. Returns the subjects that are live.
   */
  private leaveOthers(session: Session, record: DeviceRecord): Set<string> {
    const { socket } = session
    const staying = new Map(
      groupsOf(record).map(({ subject, registrations }) => [subject, this.audiences.topicOf(subject, registrations)]),
    )
    const joined = new Set<string>()
    for (const topic of socket.topics()) {
      const subject = subjectOf(topic)
      const wanted = staying.get(subject)
      if (wanted !== undefined) {
        joined.add(subject)
        socket.subscribe(wanted)
      }
      if (topic !== wanted) socket.unsubscribe(topic)
    }
    const catchUp = this.catchUps.get(session)
    if (catchUp && record.version >= (catchUp.staying?.version ?? 0)) {
      catchUp.staying = { version: record.version, subjects: new Set(staying.keys()) }
      catchUp.follower?.keepOnly(catchUp.staying.subjects)
    }
    return joined
  }

  private followerOf(session: Session, record: DeviceRecord, starts: ReadonlyMap<string, number>): Follower {
    const members = new Map(
      groupsOf(record).map(({ subject, registrations }) => [subject, this.audiences.namedOf(registrations)]),
    )
    return new Follower(this.followerParts, session, starts, members)
  }

  private async bringLive(
    session: Session,
    catchUp: CatchUp,
    firstRecord: DeviceRecord,
    firstStarts: ReadonlyMap<string, number>,
  ): Promise<void> {
    let record = firstRecord
    let starts = firstStarts
    for (;;) {
      const { incarnation, position } = this.log
      catchUp.follower = starts.size > 0 ? this.followerOf(session, record, starts) : null
      if (catchUp.staying) catchUp.follower?.keepOnly(catchUp.staying.subjects)
      const reached = catchUp.follower ? await catchUp.follower.run() : { incarnation, sequence: position }
      catchUp.follower = null
      if (!reached || session.state === 'closed') return
      if (!catchUp.mustRefresh) {
        this.parts.turn(() => session.groupsCaughtUp({ ...reached, subscriptions: record.version }))
        return
      }
      // The subscriptions changed meanwhile: CAUGHT_UP must cover the new ones too.
      catchUp.mustRefresh = false
      record = await this.parts.devices.read(session.device, { authoritative: true })
      session.registered(record)
      starts = await this.applyChanges(session, record)
    }
  }

  private publish(message: GroupMessage): void {
    // A message with ttl 0s expires when it is accepted. It is for the devices that are connected now.
    const isForNow = message.expiresAtMs === message.acceptedAtMs
    if (!isForNow && this.isExpired(message)) return
    const subscribers = this.audiences.publishAll(message.subject, (topic, registrations) => {
      const count = this.parts.sockets.publish(topic, () => frameOf(message, registrations))
      if (count > 0) this.parts.onPublished(count, frameOf(message, registrations).length)
      return count
    })
    this.parts.receipts.sent(message.id, subscribers)
  }

  /** The tail has moved: resumes the catch-ups that waited for its new position. */
  private resumeReached(): void {
    // resume() deletes the entry from the Map, which its iterator allows.
    for (const [wait, sequence] of this.waitingForTail) if (sequence <= this.log.position) wait.resume()
  }

  private sendMessage(session: Session, message: GroupMessage, registrations: readonly number[]): void {
    if (this.isExpired(message)) return
    this.parts.forward(session, frameOf(message, registrations))
    this.parts.receipts.sent(message.id, 1)
  }

  private isExpired({ expiresAtMs }: GroupMessage): boolean {
    return expiresAtMs <= this.parts.clock.now()
  }

  private async untilReached(session: Session, sequence: number): Promise<void> {
    const catchUp = this.catchUps.get(session)
    if (!catchUp || sequence <= this.log.position || session.state === 'closed') return
    await this.limiter.aside(
      () =>
        new Promise<void>((resolve) => {
          const wait: Wait = {
            resume: () => {
              catchUp.wait = null
              this.waitingForTail.delete(wait)
              resolve()
            },
            drained: () => undefined,
          }
          catchUp.wait = wait
          this.waitingForTail.set(wait, sequence)
        }),
    )
  }

  private isFull(session: Session): boolean {
    return session.state !== 'closed' && session.socket.buffered() > this.options.bufferedBytesMax
  }

  /**
   * Waits for the next turn or, if the socket is full, until it has drained or closed. A waiting catch-up gives its
   * place to others: devices that ask for a long backlog and do not read it must not occupy all places.
   */
  private async untilWritable(session: Session): Promise<void> {
    const catchUp = this.catchUps.get(session)
    if (catchUp && this.isFull(session)) await this.limiter.aside(() => this.untilDrained(session, catchUp))
    else await sleep(this.parts.clock, 0)
  }

  /**
   * Waits until the buffer is half empty, so that a device that takes one packet at a time does not cause a read of
   * the log for each packet. A device that takes nothing for `stalledMs` is closed.
   */
  private untilDrained(session: Session, catchUp: CatchUp): Promise<void> {
    const { clock } = this.parts
    const { stalledMs, bufferedBytesMax } = this.options
    const startTimer = () => clock.after(stalledMs, () => this.parts.turn(() => this.parts.closeTooSlow(session)))
    return new Promise((resolve) => {
      let cancelTimer = startTimer()
      const resume = () => {
        cancelTimer()
        catchUp.wait = null
        resolve()
      }
      const drained = () => {
        if (session.socket.buffered() <= bufferedBytesMax / 2) return resume()
        cancelTimer()
        cancelTimer = startTimer()
      }
      catchUp.wait = { resume, drained }
    })
  }
}
