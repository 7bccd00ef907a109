/** The groups of all sessions of a worker: who follows what, from HELLO to live, and when subscriptions change. */
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import { sleep } from '../../clock.js'
import type { Log } from '../../nats/broker.js'
import { type DeviceRecord, type DeviceStore, groupsOf } from '../../store/devices.js'
import { Limiter } from '../limiter.js'
import type { Session } from '../session/session.js'
import type { Sockets } from '../socket/socket.js'
import { Follower, type FollowerWorld } from './follower.js'
import { GroupLog, type GroupMessage } from './group-log.js'
import { LogCheck, type LogCheckWorld } from './log-check.js'
import type { Receipts } from './receipts.js'
import { type Starts, startsOf } from './starts.js'

export interface GroupsOptions {
  cacheBytesMax: number
  topicsMax: number
  catchUpsMax: number
  bufferedBytesMax: number
  /** A socket that took nothing of what is kept for it for so long is closed. */
  stalledMs: number
}

export interface GroupsWorld extends LogCheckWorld {
  sockets: Sockets
  devices: DeviceStore
  receipts: Receipts
  turn(work: () => void): void
  /** A group message is one frame to one device. */
  forward(session: Session, frame: Uint8Array): void
  tell(session: Session, frame: ServerFrame): void
  /** Nothing can be promised to this device: close it, so that it comes back with its cursor. */
  giveUp(session: Session): void
  /** It does not read. */
  tooSlow(session: Session): void
  /** One frame went to so many at once. */
  published(subscribers: number, frameBytes: number): void
}

/** What is under way for one session. */
interface UnderWay {
  /** The subscriptions changed meanwhile: look again before saying that the device is caught up. */
  again: boolean
  /** What the follower waits for: the socket, or the tail. */
  waits: Wait | null
}

interface Wait {
  resume(): void
  /** The socket took something. */
  drained(): void
}

/** Subscriptions that could not be read are read again after so long. */
const UNREAD_MS = 1_000

export class Groups {
  readonly log: GroupLog
  private readonly underWay = new Map<Session, UnderWay>()
  /** Told to look again before they were welcomed: what their handshake reads may be older than the change. */
  private readonly early = new WeakSet<Session>()
  /** Whose subscriptions may have changed, and could not be read. */
  private readonly unread = new Set<Session>()
  private cancelUnread: (() => void) | null = null
  private readonly limiter: Limiter
  /** Those who wait for the tail, and until where. */
  private readonly waiting = new Map<Wait, number>()
  private readonly followers: FollowerWorld
  private readonly logCheck: LogCheck

  constructor(
    log: Log,
    private readonly world: GroupsWorld,
    private readonly options: GroupsOptions,
  ) {
    this.limiter = new Limiter(options.catchUpsMax)
    this.log = new GroupLog(log, {
      cacheBytesMax: options.cacheBytesMax,
      topicsMax: options.topicsMax,
      onMessage: (message) => this.publish(message),
      onProgress: () => this.progressed(),
      onError: world.onError,
    })
    this.logCheck = new LogCheck(this.log, world)
    this.followers = {
      log: this.log,
      turn: world.turn,
      send: (session, message) => this.send(session, message),
      tell: world.tell,
      isFull: (session) => this.isFull(session),
      writable: (session) => this.writable(session),
      reached: (session, sequence) => this.reached(session, sequence),
    }
  }

  start(): Promise<void> {
    return this.log.start()
  }

  /** The store may be another one. */
  reconnected(): void {
    this.logCheck.look()
  }

  async stop(): Promise<void> {
    this.cancelUnread?.()
    await this.logCheck.stop()
    await this.log.stop()
    for (const session of this.underWay.keys()) this.closed(session)
  }

  /** After WELCOME: from the device's cursor to live. In the same turn where memory has all it missed. */
  follow(session: Session, record: DeviceRecord, cursor: Cursor | null): void {
    this.followFrom(session, record, cursor)
    if (this.early.delete(session)) this.refresh(session)
  }

  private followFrom(session: Session, record: DeviceRecord, cursor: Cursor | null): void {
    const groups = groupsOf(record)
    const furthest = Math.max(cursor?.sequence ?? 0, ...groups.map(({ since }) => since))
    if (furthest <= this.log.at) {
      const starts = startsOf(groups, cursor, { incarnation: this.log.incarnation, last: this.log.at })
      this.begin(session, record, starts)
      return
    }
    // Either the tail is behind, or the cursor is of a log that had more in it.
    void this.whileUnderWay(session, async (underWay) => {
      const { lastSequence } = await this.log.bounds()
      const starts = startsOf(groups, cursor, { incarnation: this.log.incarnation, last: lastSequence })
      this.tellGap(session, starts)
      await this.bringLive(session, underWay, record, starts.from)
    })
  }

  private begin(session: Session, record: DeviceRecord, starts: Starts): void {
    this.tellGap(session, starts)
    const { incarnation } = this.log
    if (starts.from.size === 0 || new Follower(this.followers, session, starts.from).tryNow()) {
      session.groupsCaughtUp({ incarnation, sequence: this.log.at, subscriptions: record.version })
      return
    }
    void this.whileUnderWay(session, (underWay) => this.bringLive(session, underWay, record, starts.from))
  }

  private tellGap(session: Session, { gap }: Starts): void {
    if (gap) this.world.turn(() => this.world.tell(session, { type: 'GAP', count: 0, reason: gap, mark: null }))
  }

  /** Its subscriptions changed, or may have: read them again and follow what is new. */
  refresh(session: Session): void {
    const underWay = this.underWay.get(session)
    if (underWay) underWay.again = true
    else if (session.state === 'behind' || session.state === 'live') {
      void this.whileUnderWay(session, (own) => this.followChanges(session, own))
    } else if (session.state !== 'closed') this.early.add(session)
  }

  /** Some of what was kept for its socket went out. */
  drained(session: Session): void {
    this.underWay.get(session)?.waits?.drained()
  }

  closed(session: Session): void {
    this.unread.delete(session)
    this.underWay.get(session)?.waits?.resume()
  }

  private async whileUnderWay(session: Session, work: (underWay: UnderWay) => Promise<void>): Promise<void> {
    const underWay: UnderWay = { again: false, waits: null }
    this.underWay.set(session, underWay)
    try {
      await this.limiter.run(() => work(underWay))
    } catch (error) {
      this.world.onError('groups of a device', error)
      this.world.turn(() => this.world.giveUp(session))
    } finally {
      this.underWay.delete(session)
    }
    // Told so after the last look, or during one that found nothing new, and may have seen what was before the change.
    if (underWay.again) this.refresh(session)
  }

  private async followChanges(session: Session, underWay: UnderWay): Promise<void> {
    const record = await this.recordOf(session)
    if (record === null || record.version === session.subscriptions || session.state === 'closed') return
    await this.bringLive(session, underWay, record, await this.changes(session, record))
  }

  /**
   * Null: not known now. Nothing has changed for the device yet, so that it is looked at again after a moment, and keeps its connection: a store that is
   * late has enough to do without handshakes.
   */
  private async recordOf(session: Session): Promise<DeviceRecord | null> {
    try {
      return await this.world.devices.read(session.device, { authoritative: true })
    } catch (error) {
      this.world.onError('groups of a device', error)
      this.unread.add(session)
      this.cancelUnread ??= this.world.clock.after(UNREAD_MS, () => this.readUnread())
      return null
    }
  }

  private readUnread(): void {
    this.cancelUnread = null
    const sessions = [...this.unread]
    this.unread.clear()
    for (const session of sessions) this.refresh(session)
  }

  /** Leaves the groups that are no more, and gives where the new ones start. */
  private async changes(session: Session, record: DeviceRecord): Promise<ReadonlyMap<string, number>> {
    const groups = groupsOf(record)
    const wanted = new Set(groups.map(({ subject }) => subject))
    const joined = new Set(session.socket.topics())
    for (const topic of joined) if (!wanted.has(topic)) session.socket.unsubscribe(topic)
    const added = groups.filter(({ subject }) => !joined.has(subject))
    const { lastSequence } = await this.log.bounds()
    return startsOf(added, null, { incarnation: this.log.incarnation, last: lastSequence }).from
  }

  private async bringLive(
    session: Session,
    underWay: UnderWay,
    first: DeviceRecord,
    firstFrom: ReadonlyMap<string, number>,
  ): Promise<void> {
    let record = first
    let from = firstFrom
    for (;;) {
      const { incarnation, at } = this.log
      const reached =
        from.size > 0 ? await new Follower(this.followers, session, from).run() : { incarnation, sequence: at }
      if (!reached || session.state === 'closed') return
      if (!underWay.again) {
        this.world.turn(() => session.groupsCaughtUp({ ...reached, subscriptions: record.version }))
        return
      }
      // A topic was added meanwhile: it belongs to what the device is told to be caught up with.
      underWay.again = false
      record = await this.world.devices.read(session.device, { authoritative: true })
      from = await this.changes(session, record)
    }
  }

  private publish(message: GroupMessage): void {
    if (this.isOver(message, message.acceptedAtMs)) return
    const subscribers = this.world.sockets.publish(message.subject, message.frame)
    this.world.receipts.sent(message.id, subscribers)
    this.world.published(subscribers, message.frame.length)
  }

  private progressed(): void {
    // Each leaves the map as it goes on.
    for (const [wait, sequence] of this.waiting) if (sequence <= this.log.at) wait.resume()
  }

  private send(session: Session, message: GroupMessage): void {
    if (this.isOver(message, 0)) return
    this.world.forward(session, message.frame)
    this.world.receipts.sent(message.id, 1)
  }

  /** Expired; a message only for those connected (it expires as it is accepted) is still for those who are. */
  private isOver(message: GroupMessage, onlyNowAtMs: number): boolean {
    return message.expiresAtMs !== onlyNowAtMs && message.expiresAtMs <= this.world.clock.now()
  }

  private async reached(session: Session, sequence: number): Promise<void> {
    const underWay = this.underWay.get(session)
    if (!underWay || sequence <= this.log.at || session.state === 'closed') return
    await this.limiter.aside(
      () =>
        new Promise<void>((resolve) => {
          const wait: Wait = {
            resume: () => {
              underWay.waits = null
              this.waiting.delete(wait)
              resolve()
            },
            drained: () => undefined,
          }
          underWay.waits = wait
          this.waiting.set(wait, sequence)
        }),
    )
  }

  private isFull(session: Session): boolean {
    return session.state !== 'closed' && session.socket.buffered() > this.options.bufferedBytesMax
  }

  /**
   * Between two turns at least; while the socket keeps back too much, until it drained or closed. Others are served
   * meanwhile: devices that ask for a long backlog and do not read it must not be able to hold all places.
   */
  private async writable(session: Session): Promise<void> {
    const underWay = this.underWay.get(session)
    if (underWay && this.isFull(session)) await this.limiter.aside(() => this.emptied(session, underWay))
    else await sleep(this.world.clock, 0)
  }

  /** Half empty, so that a device that takes one packet at a time does not make us look for the next message each time. */
  private emptied(session: Session, underWay: UnderWay): Promise<void> {
    const { clock } = this.world
    const { stalledMs, bufferedBytesMax } = this.options
    const watch = () => clock.after(stalledMs, () => this.world.turn(() => this.world.tooSlow(session)))
    return new Promise((resolve) => {
      let cancel = watch()
      const resume = () => {
        cancel()
        underWay.waits = null
        resolve()
      }
      const drained = () => {
        if (session.socket.buffered() <= bufferedBytesMax / 2) return resume()
        cancel()
        cancel = watch()
      }
      underWay.waits = { resume, drained }
    })
  }
}
