/**
 * Brings one device's groups up to the worker's tail and makes them live, all in one turn. Exists only while it has to.
 *
 * Messages of all topics go in the order of the log, because the device's cursor is one number: what is sent out of
 * order, and then cut off, would be skipped at the next connect. The topics go live in the turn in which memory has
 * nothing after what was sent, so that nothing can come between.
 */
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import type { Session } from '../session/session.js'
import type { GroupLog, GroupMessage } from './group-log.js'

/** Messages of one turn; between two, others have theirs. */
const TURN_MAX = 64

export interface FollowerWorld {
  readonly log: GroupLog
  /** One turn: what it sends goes out at its end. */
  turn(work: () => void): void
  send(session: Session, message: GroupMessage): void
  tell(session: Session, frame: ServerFrame): void
  /** The socket keeps back so much that it has to be waited for. */
  isFull(session: Session): boolean
  /** Resolves in a later turn, when the socket keeps back little enough, or is closed. */
  writable(session: Session): Promise<void>
  /** Resolves when the tail has come so far, or the socket is closed. */
  reached(session: Session, sequence: number): Promise<void>
}

export class Follower {
  /** Everything up to here was sent, of every topic from its own start on. */
  private at: number

  constructor(
    private readonly world: FollowerWorld,
    private readonly session: Session,
    /** For each subject: where it starts. */
    private readonly from: ReadonlyMap<string, number>,
  ) {
    this.at = Math.min(...from.values())
  }

  /** All at once, where memory has everything; false where it takes run(). */
  tryNow(): boolean {
    const { log } = this.world
    if (Math.max(...this.from.values()) > log.at) return false
    for (const subject of this.from.keys()) if (log.mustRead(subject, this.after(subject))) return false
    this.at = Math.max(this.at, log.floor)
    return this.sendRecent()
  }

  /** Resolves with where the log stood when all topics went live; null where the session ended. */
  async run(): Promise<Pick<Cursor, 'incarnation' | 'sequence'> | null> {
    const { log } = this.world
    // A device may have seen more than this worker: nobody goes live before the tail is where the device is.
    const furthest = Math.max(...this.from.values())
    if (furthest > log.at) await this.world.reached(this.session, furthest)
    while (this.session.state !== 'closed') {
      if (this.at < log.floor) {
        if (!(await this.sendStored(log.floor))) return null
      } else if (this.sendRecent()) {
        return { incarnation: log.incarnation, sequence: log.at }
      }
      await this.world.writable(this.session)
    }
    return null
  }

  /** From the log, up to `target`, or as far as the socket takes it. False where the session ended. */
  private async sendStored(target: number): Promise<boolean> {
    const heads = new Map<string, GroupMessage>()
    const toRead = [...this.from.keys()].filter((subject) => this.world.log.mustRead(subject, this.after(subject)))
    if (toRead.length > 0) await this.tellTruncated(toRead)
    await Promise.all(toRead.map((subject) => this.readHead(heads, subject, target)))
    while (heads.size > 0) {
      if (this.session.state === 'closed') return false
      const [subject, message] = earliest(heads)
      this.world.turn(() => this.world.send(this.session, message))
      this.at = message.sequence
      heads.delete(subject)
      // The other heads are read again then: nothing is kept for a device while it does not read.
      if (this.world.isFull(this.session)) return true
      await this.readHead(heads, subject, target)
      await this.world.writable(this.session)
    }
    this.at = target
    return true
  }

  private async readHead(heads: Map<string, GroupMessage>, subject: string, target: number): Promise<void> {
    const message = await this.world.log.read(subject, this.after(subject), target)
    if (message) heads.set(subject, message)
  }

  /** From memory; true where there was no more, and all topics are live now. */
  private sendRecent(): boolean {
    const { log } = this.world
    let isLive = false
    this.world.turn(() => {
      const messages = log.recent(this.from, this.at, TURN_MAX)
      for (const message of messages) this.world.send(this.session, message)
      this.at = messages.length === TURN_MAX ? (messages.at(-1) as GroupMessage).sequence : log.at
      isLive = this.at === log.at
      if (isLive) for (const subject of this.from.keys()) this.session.socket.subscribe(subject)
    })
    return isLive
  }

  /** The log forgets by age: what is older than its first record will not come. */
  private async tellTruncated(subjects: string[]): Promise<void> {
    const { firstSequence } = await this.world.log.bounds()
    if (subjects.every((subject) => this.after(subject) >= firstSequence - 1)) return
    this.world.turn(() => this.world.tell(this.session, { type: 'GAP', count: 0, reason: 'log_truncated', mark: null }))
    this.at = Math.max(this.at, firstSequence - 1)
  }

  private after(subject: string): number {
    return Math.max(this.at, this.from.get(subject) ?? 0)
  }
}

function earliest(heads: ReadonlyMap<string, GroupMessage>): [string, GroupMessage] {
  let first: [string, GroupMessage] | null = null
  for (const head of heads) if (!first || head[1].sequence < first[1].sequence) first = head
  if (!first) throw new RangeError('no heads')
  return first
}
