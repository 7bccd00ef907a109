/**
 * A worker's own tail of BROADCAST, with the recent messages in memory (design 3.8).
 *
 *   began .......... floor .......... at
 *     |  only in the   |   in memory    |  not seen yet
 *     |  log now       |                |
 *
 * `at` is the last sequence this worker has seen; nobody is shown more than that. What is after `floor` is answered from
 * memory; what is at or before it is read from the log. A topic of which nothing was seen since `began` has nothing
 * after `began`: "nothing seen" says nothing about what was before.
 */

import { encodeNotifyGroupFrame } from '../../../protocol/encode.js'
import { decodeBroadcastRecord } from '../../../protocol/envelope.js'
import type { Consumption, Log, LogRecord, LogState } from '../../nats/broker.js'

export interface GroupMessage {
  id: bigint
  /** Subject in BROADCAST, and the topic of the sockets. */
  subject: string
  sequence: number
  /** Unix milliseconds. */
  acceptedAtMs: number
  expiresAtMs: number
  /** The whole NOTIFY_GROUP frame, made once for all subscribers of this worker. */
  frame: Uint8Array
}

interface Topic {
  lastSeen: number
  /** The messages in memory, oldest first. */
  recent: GroupMessage[]
}

export interface GroupLogOptions {
  cacheBytesMax: number
  topicsMax: number
  onMessage: (message: GroupMessage) => void
  /** `at` moved on, with a message or without. */
  onProgress: () => void
  onError: (what: string, error: unknown) => void
}

export class GroupLog {
  /** Names the log; a cursor of another one says nothing about this one. */
  incarnation = 0n
  at = 0
  floor = 0
  private began = 0
  private readonly topics = new Map<string, Topic>()
  private readonly cached: GroupMessage[] = []
  private cachedFrom = 0
  private cachedBytes = 0
  private consumption: Consumption | null = null

  constructor(
    private readonly log: Log,
    private readonly options: GroupLogOptions,
  ) {}

  /** Resolves when the tail stands at a recorded position: only then may a HELLO be accepted. */
  async start(): Promise<void> {
    const state = await this.log.state()
    this.incarnation = BigInt(state.incarnation)
    this.at = this.floor = this.began = state.lastSequence
    this.consumption = await this.log.tail({ fromSequence: this.at + 1 }, (record) => this.take(record))
  }

  async stop(): Promise<void> {
    await this.consumption?.stop()
  }

  /** True where the log that was tailed so far is gone, and another one has its name. */
  async isReplaced(): Promise<boolean> {
    // As it stood when the question was asked: the tail goes on meanwhile.
    const { at } = this
    const state = await this.log.state()
    return BigInt(state.incarnation) !== this.incarnation || state.lastSequence < at
  }

  /** Begins again, with the log that is there now; where it rejects there may be no tail. One at a time. */
  async restart(): Promise<void> {
    await this.stop()
    this.topics.clear()
    this.cached.splice(0)
    this.cachedFrom = 0
    this.cachedBytes = 0
    await this.start()
  }

  /** First and last sequence of the log, now. */
  bounds(): Promise<LogState> {
    return this.log.state()
  }

  /** True where the topic can have messages after `sequence` that are only in the log. */
  mustRead(subject: string, sequence: number): boolean {
    if (sequence >= this.floor) return false
    return sequence < (this.topics.get(subject)?.lastSeen ?? this.began)
  }

  /** The first message of the topic after `sequence`, at or before `last`. From the log, undecoded for nobody else. */
  async read(subject: string, sequence: number, last: number): Promise<GroupMessage | null> {
    for (let from = sequence + 1; from <= last; ) {
      const record = await this.log.next(subject, from, { authoritative: true })
      if (!record || record.sequence > last) return null
      const message = this.decode(record)
      if (message) return message
      from = record.sequence + 1
    }
    return null
  }

  /** Messages of the topics after `sequence` (of each its own), in order, at most `max`. Needs sequence >= floor. */
  recent(from: ReadonlyMap<string, number>, after: number, max: number): GroupMessage[] {
    const found: GroupMessage[] = []
    for (const [subject, start] of from) {
      const recent = this.topics.get(subject)?.recent
      if (!recent || recent.length === 0) continue
      const first = firstAfter(recent, Math.max(after, start))
      for (let i = first; i < recent.length && i < first + max; i++) found.push(recent[i] as GroupMessage)
    }
    return found.sort((a, b) => a.sequence - b.sequence).slice(0, max)
  }

  private take(record: LogRecord): void {
    // Of a tail that was stopped, on its way still.
    if (record.sequence <= this.at) return
    const message = this.decode(record)
    this.at = record.sequence
    if (message) {
      this.remember(message)
      this.options.onMessage(message)
    }
    this.options.onProgress()
  }

  private decode(record: LogRecord): GroupMessage | null {
    try {
      const { id, acceptedAtMs, expiresAtMs, body } = decodeBroadcastRecord(record.body)
      const frame = encodeNotifyGroupFrame(body, record.sequence)
      return { id, subject: record.subject, sequence: record.sequence, acceptedAtMs, expiresAtMs, frame }
    } catch (error) {
      // A record that nobody can read must not stop the tail: everything behind it would be lost instead of it.
      this.options.onError(`group message ${record.sequence}`, error)
      return null
    }
  }

  private remember(message: GroupMessage): void {
    const topic = this.topics.get(message.subject) ?? { lastSeen: 0, recent: [] }
    topic.lastSeen = message.sequence
    topic.recent.push(message)
    // To the end: the topic that was quiet for longest is forgotten first.
    this.topics.delete(message.subject)
    this.topics.set(message.subject, topic)
    this.cached.push(message)
    this.cachedBytes += message.frame.length
    while (this.cachedBytes > this.options.cacheBytesMax) this.evict()
    if (this.topics.size > this.options.topicsMax) this.forgetQuietest()
  }

  private evict(): void {
    const oldest = this.cached[this.cachedFrom++] as GroupMessage
    this.cachedBytes -= oldest.frame.length
    this.floor = oldest.sequence
    // Within its topic it is the oldest as well.
    this.topics.get(oldest.subject)?.recent.shift()
    if (this.cachedFrom > 1024 && this.cachedFrom * 2 > this.cached.length) {
      this.cached.splice(0, this.cachedFrom)
      this.cachedFrom = 0
    }
  }

  private forgetQuietest(): void {
    const [quietest] = this.topics
    if (!quietest) return
    const [subject, topic] = quietest
    // What is not remembered any more has to be behind the floor, and counts as not seen since.
    while (this.floor < topic.lastSeen) this.evict()
    this.began = Math.max(this.began, topic.lastSeen)
    this.topics.delete(subject)
  }
}

/** Index of the first message after `sequence`. */
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
