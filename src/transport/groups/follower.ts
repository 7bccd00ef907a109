/**
 * Brings the groups of one device up to the worker's tail and then makes them live in the same turn. A follower
 * exists only during this catch-up.
 *
 * The messages of all topics are sent in the order of the log, because the device's cursor is one number: if the
 * connection broke after a message that was sent out of order, the cursor would skip the messages before it. The
 * topics go live in the turn in which memory has no message after the last one sent, so that no message can come
 * between.
 */
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import type { Session } from '../session/session.js'
import type { GroupLog, GroupMessage } from './group-log.js'

/** Most messages of one turn. Other devices have their turns between two of them. */
const TURN_MAX = 64

export interface FollowerParts {
  readonly log: GroupLog
  /** Runs a turn: the frames that it sends leave at its end. */
  turn(work: () => void): void
  sendMessage(session: Session, message: GroupMessage, registrations: readonly number[]): void
  /** Makes the group live for the session. */
  join(session: Session, subject: string, registrations: readonly number[]): void
  sendFrame(session: Session, frame: ServerFrame): void
  /** The socket buffers so much that the follower has to wait. */
  isFull(session: Session): boolean
  /** Resolves in a later turn, when the socket buffers little enough or is closed. */
  untilWritable(session: Session): Promise<void>
  /** Resolves when the tail has reached the sequence, or when the socket is closed. */
  untilReached(session: Session, sequence: number): Promise<void>
}

export class Follower {
  /** All messages up to this sequence are sent: of each topic those after its own start. */
  private position: number
  private readonly starts: Map<string, number>

  constructor(
    private readonly parts: FollowerParts,
    private readonly session: Session,
    /** For each subject: the device needs the messages after this sequence. */
    starts: ReadonlyMap<string, number>,
    /** For each subject: the registrations of the device in the group. */
    private readonly members: ReadonlyMap<string, readonly number[]>,
  ) {
    this.starts = new Map(starts)
    this.position = Math.min(...starts.values())
  }

  /** The device has left all other groups: nothing of them is sent any more, and they do not go live. */
  keepOnly(subjects: ReadonlySet<string>): void {
    for (const subject of this.starts.keys()) if (!subjects.has(subject)) this.starts.delete(subject)
  }

  /** Does all in one turn, if memory has all messages. Returns false if run() is needed. */
  tryNow(): boolean {
    const { log } = this.parts
    if (Math.max(...this.starts.values()) > log.position) return false
    for (const subject of this.starts.keys()) if (log.mustRead(subject, this.positionOf(subject))) return false
    this.position = Math.max(this.position, log.floor)
    return this.sendRecent()
  }

  /** Resolves with the position of the log at which all topics went live; null if the session ended before. */
  async run(): Promise<Pick<Cursor, 'incarnation' | 'sequence'> | null> {
    const { log } = this.parts
    // The device may have seen more than this worker. It must not go live before the tail is where the device is.
    const furthest = Math.max(0, ...this.starts.values())
    if (furthest > log.position) await this.parts.untilReached(this.session, furthest)
    while (this.session.state !== 'closed') {
      if (this.position < log.floor) {
        if (!(await this.sendStored(log.floor))) return null
      } else if (this.sendRecent()) {
        return { incarnation: log.incarnation, sequence: log.position }
      }
      await this.parts.untilWritable(this.session)
    }
    return null
  }

  /** Sends messages from the log, up to `target` or until the socket is full. Returns false if the session ended. */
  private async sendStored(target: number): Promise<boolean> {
    /** The next message of each topic. */
    const heads = new Map<string, GroupMessage>()
    const toRead = [...this.starts.keys()].filter((subject) =>
      this.parts.log.mustRead(subject, this.positionOf(subject)),
    )
    if (toRead.length > 0) await this.skipTruncated(toRead)
    await Promise.all(toRead.map((subject) => this.readHead(heads, subject, target)))
    while (heads.size > 0) {
      if (this.session.state === 'closed') return false
      const [subject, message] = earliest(heads)
      if (this.starts.has(subject)) this.parts.turn(() => this.send(message))
      this.position = message.sequence
      heads.delete(subject)
      // The other heads are dropped and read again later: no memory is used for a device while it does not read.
      if (this.parts.isFull(this.session)) return true
      await this.readHead(heads, subject, target)
      await this.parts.untilWritable(this.session)
    }
    this.position = target
    return true
  }

  private async readHead(heads: Map<string, GroupMessage>, subject: string, target: number): Promise<void> {
    const message = await this.parts.log.readNext(subject, this.positionOf(subject), target)
    if (message) heads.set(subject, message)
  }

  /** Sends messages from memory. Returns true if there were no more: then all topics are live now. */
  private sendRecent(): boolean {
    const { log } = this.parts
    let isLive = false
    this.parts.turn(() => {
      const messages = log.recentOf(this.starts, this.position, TURN_MAX)
      for (const message of messages) this.send(message)
      this.position = messages.length === TURN_MAX ? (messages.at(-1) as GroupMessage).sequence : log.position
      isLive = this.position === log.position
      if (!isLive) return
      for (const subject of this.starts.keys()) this.parts.join(this.session, subject, this.members.get(subject) ?? [])
    })
    return isLive
  }

  private send(message: GroupMessage): void {
    this.parts.sendMessage(this.session, message, this.members.get(message.subject) ?? [])
  }

  /**
   * The log deletes old messages. If the device misses some of them, it gets a GAP and continues at the first one
   * left.
   */
  private async skipTruncated(subjects: string[]): Promise<void> {
    const { firstSequence } = await this.parts.log.bounds()
    if (subjects.every((subject) => this.positionOf(subject) >= firstSequence - 1)) return
    this.parts.turn(() =>
      this.parts.sendFrame(this.session, { type: 'GAP', count: 0, reason: 'log_truncated', mark: null }),
    )
    this.position = Math.max(this.position, firstSequence - 1)
  }

  /** The device has, or does not need, the messages of the topic up to this sequence. */
  private positionOf(subject: string): number {
    return Math.max(this.position, this.starts.get(subject) ?? 0)
  }
}

function earliest(heads: ReadonlyMap<string, GroupMessage>): [string, GroupMessage] {
  let first: [string, GroupMessage] | null = null
  for (const head of heads) if (!first || head[1].sequence < first[1].sequence) first = head
  if (!first) throw new RangeError('no heads')
  return first
}
