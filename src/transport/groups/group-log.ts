/**
 * A worker's own tail of BROADCAST, with the recent messages in memory (ADR 8).
 *
 *   tailStart .......... floor .......... position
 *      |  only in the log  |   in memory   |  not seen yet
 *
 * `position` is the last sequence that this worker has seen. No device gets a message beyond it. Messages after
 * `floor` are in memory; messages up to `floor` are read from the log. If this worker has seen no message of a topic,
 * the topic has none after `tailStart`, but may have messages before it.
 */

import { encodeNotifyGroupFrame } from '../../../protocol/encode.js'
import { decodeBroadcastRecord } from '../../../protocol/envelope.js'
import { BROADCAST_FILTER } from '../../../protocol/subjects.js'
import type { Consumption, Log, LogRecord, LogState } from '../../nats/broker.js'

export interface GroupMessage {
  id: bigint
  /** The subject in BROADCAST; the sockets use it as their topic. */
  subject: string
  sequence: number
  /** Unix milliseconds. */
  acceptedAtMs: number
  expiresAtMs: number
  /** The body of the NOTIFY_GROUP frame without its last fields, see frameOf(). */
  body: Uint8Array
  /** The frame that was made last. */
  framed: { registrations: readonly number[]; frame: Uint8Array } | null
}

/** The NOTIFY_GROUP frame for devices with these registrations in the group. Most devices have the same. */
export function frameOf(message: GroupMessage, registrations: readonly number[]): Uint8Array {
  if (message.framed?.registrations !== registrations) {
    const frame = encodeNotifyGroupFrame(message.body, message.sequence, registrations)
    // The frame contains the body, so memory has it once. Before it stand a length and the type.
    const bodyAt = frame.findIndex((byte) => byte < 0x80) + 2
    message.body = frame.subarray(bodyAt, bodyAt + message.body.length)
    message.framed = { registrations, frame }
  }
  return message.framed.frame
}

interface Topic {
  lastSequence: number
  /** The messages in memory, oldest first. */
  recent: GroupMessage[]
}

export interface GroupLogOptions {
  cacheBytesMax: number
  topicsMax: number
  onMessage: (message: GroupMessage) => void
  /** `position` has moved, whether the record could be decoded or not. */
  onProgress: () => void
  onError: (task: string, error: unknown) => void
}

export class GroupLog {
  /** Identifies the log: a cursor with another incarnation says nothing about this log. */
  incarnation = 0n
  position = 0
  floor = 0
  private tailStart = 0
  /**
   * The topics whose messages this worker has seen, by the time of the last message: the quietest topic comes first.
   */
  private readonly topics = new Map<string, Topic>()
  /** The messages in memory, oldest first, from `cachedFrom` on. */
  private readonly cached: GroupMessage[] = []
  private cachedFrom = 0
  private cachedBytes = 0
  private consumption: Consumption | null = null

  constructor(
    private readonly log: Log,
    private readonly options: GroupLogOptions,
  ) {}

  /** Resolves when the tail stands at a known position. The worker must not accept a HELLO before. */
  async start(): Promise<void> {
    const state = await this.log.state()
    this.incarnation = BigInt(state.incarnation)
    this.position = this.floor = this.tailStart = state.lastSequence
    const options = { fromSequence: this.position + 1, filter: BROADCAST_FILTER }
    this.consumption = await this.log.tail(options, (record) => this.take(record))
  }

  async stop(): Promise<void> {
    await this.consumption?.stop()
  }

  /** True if the log that was tailed so far is gone, and another one has its name. */
  async isReplaced(): Promise<boolean> {
    // Read before the question, because the tail goes on meanwhile.
    const { position } = this
    const state = await this.log.state()
    return BigInt(state.incarnation) !== this.incarnation || state.lastSequence < position
  }

  /** Tails the log that exists now. After a rejection there may be no tail. Must not run twice at the same time. */
  async restart(): Promise<void> {
    await this.stop()
    this.topics.clear()
    this.cached.splice(0)
    this.cachedFrom = 0
    this.cachedBytes = 0
    await this.start()
  }

  /** The first and the last sequence of the log, now. */
  bounds(): Promise<LogState> {
    return this.log.state()
  }

  /** True if the topic can have messages after `sequence` that are only in the log. */
  mustRead(subject: string, sequence: number): boolean {
    if (sequence >= this.floor) return false
    return sequence < (this.topics.get(subject)?.lastSequence ?? this.tailStart)
  }

  /** Reads the first message of the topic after `sequence` from the log; null if there is none up to `last`. */
  async readNext(subject: string, sequence: number, last: number): Promise<GroupMessage | null> {
    for (let from = sequence + 1; from <= last; ) {
      const record = await this.log.next(subject, from, { authoritative: true })
      if (!record || record.sequence > last) return null
      const message = this.decode(record)
      if (message) return message
      from = record.sequence + 1
    }
    return null
  }

  /**
   * The messages in memory of several topics, in order, at most `max`: of each topic those after `after` and after the
   * topic's own start. `after` must not be below `floor`.
   */
  recentOf(starts: ReadonlyMap<string, number>, after: number, max: number): GroupMessage[] {
    const found: GroupMessage[] = []
    for (const [subject, start] of starts) {
      const recent = this.topics.get(subject)?.recent
      if (!recent || recent.length === 0) continue
      const first = firstAfter(recent, Math.max(after, start))
      for (let i = first; i < recent.length && i < first + max; i++) found.push(recent[i] as GroupMessage)
    }
    return found.sort((a, b) => a.sequence - b.sequence).slice(0, max)
  }

  private take(record: LogRecord): void {
    // A stopped tail can still deliver a record.
    if (record.sequence <= this.position) return
    const message = this.decode(record)
    this.position = record.sequence
    if (message) {
      this.remember(message)
      this.options.onMessage(message)
    }
    this.options.onProgress()
  }

  private decode(record: LogRecord): GroupMessage | null {
    try {
      const { id, acceptedAtMs, expiresAtMs, body } = decodeBroadcastRecord(record.body)
      const { subject, sequence } = record
      return { id, subject, sequence, acceptedAtMs, expiresAtMs, body, framed: null }
    } catch (error) {
      // A record that cannot be decoded must not stop the tail: all messages behind it would be lost.
      this.options.onError(`decoding of group message ${record.sequence}`, error)
      return null
    }
  }

  private remember(message: GroupMessage): void {
    const topic = this.topics.get(message.subject) ?? { lastSequence: 0, recent: [] }
    topic.lastSequence = message.sequence
    topic.recent.push(message)
    // Deleted first, the topic goes to the end of the Map.
    this.topics.delete(message.subject)
    this.topics.set(message.subject, topic)
    this.cached.push(message)
    this.cachedBytes += message.body.length
    while (this.cachedBytes > this.options.cacheBytesMax) this.evict()
    if (this.topics.size > this.options.topicsMax) this.forgetQuietest()
  }

  private evict(): void {
    const oldest = this.cached[this.cachedFrom++] as GroupMessage
    this.cachedBytes -= oldest.body.length
    this.floor = oldest.sequence
    // The oldest message of all is the oldest message of its topic too.
    this.topics.get(oldest.subject)?.recent.shift()
    if (this.cachedFrom > 1024 && this.cachedFrom * 2 > this.cached.length) {
      this.cached.splice(0, this.cachedFrom)
      this.cachedFrom = 0
    }
  }

  /** Keeps the rule of `mustRead`: messages of a forgotten topic are up to `floor`, and up to `tailStart`. */
  private forgetQuietest(): void {
    const [quietest] = this.topics
    if (!quietest) return
    const [subject, topic] = quietest
    while (this.floor < topic.lastSequence) this.evict()
    this.tailStart = Math.max(this.tailStart, topic.lastSequence)
    this.topics.delete(subject)
  }
}

/** The index of the first message after `sequence`. */
function firstAfter(messages: readonly GroupMessage[], sequence: number): number {
  let low = 0
  let high = messages.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((messages[middle] as GroupMessage).sequence <= sequence) low = middle + 1
    else high = middle
  }
  return low
}
