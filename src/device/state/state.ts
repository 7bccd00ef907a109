/**
 * The durable state of a device. Pure: no file and no clock.
 *
 * The state changes only through `apply(change)`. A StateStore makes each change durable, and every effect that depends on
 * it (HELLO, ACK, hand-over) waits for that. A snapshot is a list of changes that rebuilds the state, so snapshot and
 * journal have the same format.
 *
 * Invariant I2 in this file: a `message` change adds the id to `seen` and the message to `inbox`, and moves the cursor, in
 * one step. A `done` change removes the message from the inbox after the hand-over. A message that is in the inbox when a
 * state is loaded may have been handed over before a crash: it is handed over again, marked as a possible duplicate.
 */
import type { Credential, Cursor, GapMark, GroupTarget, Priority } from '../../../protocol/frame-types.js'
import { evictOldest } from '../../collections.js'

export interface Identity {
  deviceId: string
  /** Device token: a secret. */
  token: string
  /** Unix milliseconds; 0: unknown. */
  expiresAtMs: number
  /** Address of the transport, from the enrolment; empty: the enrolment had none. */
  url: string
  /** Address of the core, where the device enrolled and renews its token; absent: the state is from before 0.2. */
  core?: string
  /** Time of the renewal on the server's clock, Unix milliseconds; absent: not drawn yet. */
  renewAtMs?: number
  /** The service does not accept this identity any more. The device has to enrol again. */
  isOver?: boolean
}

export interface Registration {
  number: number
  application: string
  /** User from the user token; empty: the registration has no user. */
  user: string
  registrationId: string
  /** Project of the application; empty: the service or the state is too old to have it. */
  project: string
}

/** Ticket from the last WELCOME: a secret. */
export interface Ticket {
  bytes: Uint8Array
  /** Unix milliseconds at which it expires. */
  untilMs: number
}

/** Names its registration by application and user, because a server that has lost its tables assigns new numbers. */
export interface Topic {
  application: string
  user: string
  topic: string
}

/** The group that a message addresses, and the position of the message in the log. */
export interface Group extends GroupTarget {
  project: string
  sequence: number
  /** The numbers of the registrations that receive it; empty: the server did not tell them, and the target decides. */
  registrations: readonly number[]
}

/** A message that waits for its hand-over. */
export interface StoredNotification {
  id: bigint
  /** Number of the registration; 0: a group message. */
  registration: number
  group: Group | null
  /** Unix milliseconds; 0: valid only until the process ends. */
  expiresAtMs: number
  priority: Priority
  collapseKey: string
  title: string
  message: string
  /** Encoded msgpack map; empty: the message has no attributes. */
  data: Uint8Array
}

export type Change =
  | { kind: 'identity'; identity: Identity }
  | { kind: 'ticket'; ticket: Ticket | null }
  | { kind: 'connection'; connection: number }
  | { kind: 'clock'; serverAheadMs: number }
  | { kind: 'message'; message: StoredNotification; forgetAtMs: number; cursorSequence: number }
  /** A message that is not handed over: for an unknown registration, or a duplicate of a group message. */
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
  /** Greatest connection number that a HELLO may have used. */
  connection = 0
  /** Server's clock minus the device's, at the latest WELCOME. Used for expiry. */
  serverAheadMs = 0
  cursor: Cursor | null = null
  gap: GapMark | null = null
  /** The server's version of the subscriptions that this state agrees with; -1: none yet. */
  subscriptions = -1
  readonly registrations = new Map<number, Registration>()
  readonly inbox = new Map<bigint, StoredNotification>()
  private readonly topics = new Map<string, Topic>()
  /** Maps a message id to the time at which it may be forgotten. Oldest first. */
  private readonly seen = new Map<bigint, number>()

  constructor(private readonly seenMax: number) {}

  /** Whether the message has arrived before. */
  hasSeen(id: bigint): boolean {
    return this.seen.has(id) || this.inbox.has(id)
  }

  /** The credential for HELLO: the ticket until it expires, then the token. Null: the device is not enrolled. */
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

  /** The changes that rebuild this state from an empty one. */
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

  /** Forgets the ids whose time has passed. */
  sweep(nowMs: number): void {
    for (const [id, forgetAtMs] of this.seen) if (forgetAtMs <= nowMs) this.seen.delete(id)
  }

  /** The device has enrolled again and is a new device for the service. PROTOCOL.md, "Enrolment". */
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
 * The cursor after a group message. It never moves back: the server catches up a new topic from that topic's beginning, so
 * its sequences can be below the cursor.
 */
export function advanceCursor(cursor: Cursor, sequence: number): Cursor {
  return sequence > cursor.sequence ? { ...cursor, sequence } : cursor
}

/**
 * The cursor after CAUGHT_UP. If log and version are equal, the greater sequence is kept. Otherwise the server's cursor
 * replaces the device's as a whole: the device's sequence says nothing about the server's version of the subscriptions.
 */
export function caughtUpCursor(ours: Cursor | null, theirs: Cursor): Cursor {
  const same = ours && ours.incarnation === theirs.incarnation && ours.subscriptions === theirs.subscriptions
  return same && ours.sequence > theirs.sequence ? ours : theirs
}

/** The number of lost messages in a GAP that no earlier GAP had. Its mark counts all drops since the queue began. */
export function newInGap(known: GapMark | null, mark: GapMark): number {
  const knownCount = known && known.queue === mark.queue ? known.count : 0
  return Math.max(mark.count - knownCount, 0)
}

function topicKey(topic: Topic): string {
  return `${topic.application}/${topic.topic}/${topic.user}`
}
