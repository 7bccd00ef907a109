/**
 * What a device remembers, and the arithmetic on it: pure, no file and no clock.
 *
 * State only moves by changes. A change is applied in memory at once and made durable by a StateStore; whatever
 * depends on it (HELLO, ACK, hand-over) waits until it is. A snapshot is the list of changes that rebuilds the state, so
 * that file and journal share one form.
 *
 * Invariant I2 in terms of this file: a `message` change puts the id into `seen`, the message into `inbox` and moves the
 * cursor, all in one; `done` takes it out of the inbox after the hand-over. What stands in the inbox when a state is
 * loaded was perhaps handed over already: it is given again, marked as a possible duplicate.
 */
import type { Credential, Cursor, GapMark, GroupTarget, Priority } from '../../../protocol/frame-types.js'
import { evictOldest } from '../../collections.js'

export interface Identity {
  deviceId: string
  /** Device token: a secret. */
  token: string
  /** Unix milliseconds; 0: unknown. */
  expiresAtMs: number
  /** Where the transport listens, as enrolment said; empty: not said. */
  url: string
  /** The address at which the device enrolled, and where it renews its token; absent: a state of before 0.2. */
  core?: string
  /** When to renew, by the server's clock, Unix milliseconds; absent: not drawn yet. */
  renewAtMs?: number
  /** The service will not take this identity any more: only enrolling anew helps. */
  isOver?: boolean
}

export interface Registration {
  number: number
  application: string
  /** User on the device as the user token names it; empty: none. */
  user: string
  registrationId: string
  /** Project of the application; empty: an older service did not say, or this state is older. */
  project: string
}

/** Resume ticket of the last WELCOME: a secret. */
export interface Ticket {
  bytes: Uint8Array
  /** Unix milliseconds until which it is good. */
  untilMs: number
}

/** Of a registration by its application and user, since a server that lost its tables numbers anew. */
export interface Topic {
  application: string
  user: string
  topic: string
}

/** Whom a group message addressed. */
export interface Group extends GroupTarget {
  project: string
  sequence: number
}

/** A message as the device keeps it until it is handed over. */
export interface StoredNotification {
  id: bigint
  /** Number of the registration; 0: a group message. */
  registration: number
  group: Group | null
  /** Unix milliseconds; 0: does not expire once it has arrived. */
  expiresAtMs: number
  priority: Priority
  collapseKey: string
  title: string
  message: string
  /** msgpack map, not decoded; empty: none. */
  data: Uint8Array
}

export type Change =
  | { kind: 'identity'; identity: Identity }
  | { kind: 'ticket'; ticket: Ticket | null }
  | { kind: 'connection'; connection: number }
  | { kind: 'clock'; serverAheadMs: number }
  | { kind: 'message'; message: StoredNotification; forgetAtMs: number; cursorSequence: number }
  /** A message that is not (or not again) handed over: of an unknown registration, or a repeated one of a group. */
  | { kind: 'seen'; id: bigint; forgetAtMs: number; cursorSequence: number }
  | { kind: 'done'; id: bigint }
  | { kind: 'cursor'; cursor: Cursor | null }
  | { kind: 'gap'; mark: GapMark }
  | { kind: 'registered'; registration: Registration }
  | { kind: 'ended'; application: string; user: string }
  | { kind: 'topic'; topic: Topic; subscribed: boolean }
  | { kind: 'subscriptions'; version: number }

export class DeviceState {
  identity: Identity | null = null
  ticket: Ticket | null = null
  /** Number of the last connection that may have said HELLO. */
  connection = 0
  /** Server's clock less ours at the latest WELCOME: judges expiry until the next one. */
  serverAheadMs = 0
  cursor: Cursor | null = null
  gap: GapMark | null = null
  /** Version of the subscriptions that this state agrees with; -1: none yet. */
  subscriptions = -1
  readonly registrations = new Map<number, Registration>()
  readonly inbox = new Map<bigint, StoredNotification>()
  private readonly topics = new Map<string, Topic>()
  /** Message id to the time when it may be forgotten, oldest first. */
  private readonly seen = new Map<bigint, number>()

  constructor(private readonly seenMax: number) {}

  /** Whether this message came before. */
  knows(id: bigint): boolean {
    return this.seen.has(id) || this.inbox.has(id)
  }

  /** With what to say HELLO: the ticket while it is good. Null: not enrolled. */
  credential(nowMs: number): Credential | null {
    if (this.ticket && this.ticket.untilMs > nowMs) return { kind: 'ticket', ticket: this.ticket.bytes }
    return this.identity && { kind: 'token', token: this.identity.token }
  }

  isSubscribed(topic: Topic): boolean {
    return this.topics.has(topicKey(topic))
  }

  topicList(): Topic[] {
    return [...this.topics.values()]
  }

  registrationOf(application: string, user: string): Registration | null {
    for (const r of this.registrations.values()) if (r.application === application && r.user === user) return r
    return null
  }

  get seenCount(): number {
    return this.seen.size
  }

  apply(change: Change): void {
    switch (change.kind) {
      case 'identity':
        if (this.identity && this.identity.deviceId !== change.identity.deviceId) this.forgetDevice()
        this.identity = change.identity
        return
      case 'ticket':
        this.ticket = change.ticket
        return
      case 'connection':
        this.connection = change.connection
        return
      case 'clock':
        this.serverAheadMs = change.serverAheadMs
        return
      case 'message':
        this.remember(change.message.id, change.forgetAtMs)
        this.inbox.set(change.message.id, change.message)
        this.moveCursor(change.cursorSequence)
        return
      case 'seen':
        this.remember(change.id, change.forgetAtMs)
        this.moveCursor(change.cursorSequence)
        return
      case 'done':
        this.inbox.delete(change.id)
        return
      case 'cursor':
        this.cursor = change.cursor
        return
      case 'gap':
        this.gap = change.mark
        return
      case 'registered':
        this.register(change.registration)
        return
      case 'ended':
        this.end(change.application, change.user)
        return
      case 'topic':
        if (change.subscribed) this.topics.set(topicKey(change.topic), change.topic)
        else this.topics.delete(topicKey(change.topic))
        return
      case 'subscriptions':
        this.subscriptions = change.version
    }
  }

  /** The changes that make this state from an empty one. */
  snapshot(): Change[] {
    const changes: Change[] = []
    if (this.identity) changes.push({ kind: 'identity', identity: this.identity })
    if (this.ticket) changes.push({ kind: 'ticket', ticket: this.ticket })
    if (this.connection > 0) changes.push({ kind: 'connection', connection: this.connection })
    if (this.serverAheadMs !== 0) changes.push({ kind: 'clock', serverAheadMs: this.serverAheadMs })
    if (this.gap) changes.push({ kind: 'gap', mark: this.gap })
    for (const registration of this.registrations.values()) changes.push({ kind: 'registered', registration })
    for (const topic of this.topics.values()) changes.push({ kind: 'topic', topic, subscribed: true })
    if (this.subscriptions >= 0) changes.push({ kind: 'subscriptions', version: this.subscriptions })
    for (const [id, forgetAtMs] of this.seen) {
      if (!this.inbox.has(id)) changes.push({ kind: 'seen', id, forgetAtMs, cursorSequence: 0 })
    }
    for (const message of this.inbox.values()) {
      changes.push({ kind: 'message', message, forgetAtMs: this.seen.get(message.id) ?? 0, cursorSequence: 0 })
    }
    if (this.cursor) changes.push({ kind: 'cursor', cursor: this.cursor })
    return changes
  }

  /** Forgets the ids whose time has come, wherever they stand. */
  sweep(nowMs: number): void {
    for (const [id, forgetAtMs] of this.seen) if (forgetAtMs <= nowMs) this.seen.delete(id)
  }

  /** Enrolled anew: another device, of which the service knows nothing of this. PROTOCOL.md, "Enrolment". */
  private forgetDevice(): void {
    this.ticket = null
    this.connection = 0
    this.cursor = null
    this.gap = null
    this.subscriptions = -1
    this.registrations.clear()
    this.topics.clear()
  }

  private remember(id: bigint, forgetAtMs: number): void {
    this.seen.set(id, forgetAtMs)
    evictOldest(this.seen, this.seenMax)
  }

  private moveCursor(sequence: number): void {
    if (this.cursor) this.cursor = advanceCursor(this.cursor, sequence)
  }

  private register(registration: Registration): void {
    const before = this.registrationOf(registration.application, registration.user)
    if (before) this.registrations.delete(before.number)
    this.registrations.set(registration.number, registration)
  }

  private end(application: string, user: string): void {
    const registration = this.registrationOf(application, user)
    if (registration) this.registrations.delete(registration.number)
    for (const topic of this.topicList()) {
      if (topic.application === application && topic.user === user) this.topics.delete(topicKey(topic))
    }
  }
}

/**
 * The cursor after a group message. It never moves back: a topic that is new to the cursor's version is caught up from
 * its own beginning, below what the older topics have reached.
 */
export function advanceCursor(cursor: Cursor, sequence: number): Cursor {
  return sequence > cursor.sequence ? { ...cursor, sequence } : cursor
}

/**
 * The cursor after CAUGHT_UP. Of the same log and version the further one holds. Otherwise the server's word replaces
 * ours as it is: "everything up to here, of these subscriptions" would be false of our sequence with their version.
 */
export function caughtUpCursor(ours: Cursor | null, theirs: Cursor): Cursor {
  const same = ours && ours.incarnation === theirs.incarnation && ours.subscriptions === theirs.subscriptions
  return same && ours.sequence > theirs.sequence ? ours : theirs
}

/** How many of a GAP's messages were not told before: its mark counts all drops of one queue since it began. */
export function newInGap(known: GapMark | null, mark: GapMark): number {
  const told = known && known.queue === mark.queue ? known.count : 0
  return Math.max(mark.count - told, 0)
}

function topicKey(topic: Topic): string {
  return `${topic.application}/${topic.topic}/${topic.user}`
}
