/**
 * Publishes the outcomes of messages to projects that have turned their events on. It tails one EVENTS stream, and appends
 * one outcome to PUSH_EVENTS for each final event.
 *
 * Each outcome is published at least once, because the position is written after the earlier outcomes are stored. The id of
 * an outcome comes from its target, so the stream drops a duplicate within its duplicate window. The tail runs only while at
 * least one project has its events on.
 */
import { outcomeEventSubject } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { BrokerError, type Consumption, type Log, type LogRecord } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { countUp } from '../../observe/plain-metrics.js'
import { type AcceptedEvent, decodeFinal, type EventLog, type FinalEvent, isMoved } from '../../store/events.js'
import type { FeedRecord, FeedStates } from '../../store/feeds.js'
import type { CoreMetrics } from '../metrics.js'
import type { FeedDirectory } from './feed-directory.js'
import { encodeOutcomeEvent, outcomeEventOf } from './outcome-event.js'
import { Pauses } from './pauses.js'

export interface OutcomePublisherOptions {
  clock: Clock
  log: Logger
  metrics: CoreMetrics
  /** EVENTS_<index>. */
  source: Log
  index: number
  events: EventLog
  feeds: FeedDirectory
  states: FeedStates
  /** PUSH_EVENTS. */
  published: Log
  registrationIdOf: (accepted: AcceptedEvent) => string
  checkpointMs: number
  retryMs: number
  /** Most outcomes in flight. At this number the tail stops until half of them are stored. */
  inflightMax: number
}

const FINAL = '.final'
/** A cancel may write the final event just before the `accepted` event. If it crashes in between, the latter is missing. */
const READS_MAX = 10

export class OutcomePublisher {
  /** Sequence of the next record to read. Earlier records have been read, or no feed needs them. */
  private next = 1
  private readonly inFlight = new Map<number, Promise<void>>()
  private tail: Consumption | null = null
  /** Number of the current tail, so that late records of a stopped tail are ignored. */
  private tailNumber = 0
  /** The feeds of the last turn, each with the sequence after which its events begin. */
  private known = new Map<string, number>()
  private written = 0
  private readonly pauses: Pauses
  private work: Promise<void> = Promise.resolve()
  private cancelTurn = () => {}
  private unlisten = () => {}
  private stopped = false

  constructor(private readonly options: OutcomePublisherOptions) {
    this.pauses = new Pauses(options.clock)
  }

  /** Rejects with BrokerError. */
  async start(): Promise<void> {
    const { states, index, feeds } = this.options
    this.written = await states.position(index)
    this.next = this.written + 1
    // The last publisher knew these feeds, so its position covers them.
    this.known = this.sinceOf(feeds.all())
    this.unlisten = feeds.onChange(() => this.turnNow())
    this.turnNow()
  }

  get inflight(): number {
    return this.inFlight.size
  }

  /** Number of records of EVENTS that have not been read yet. */
  async lag(): Promise<number> {
    if (this.options.feeds.isEmpty) return 0
    return Math.max(0, (await this.options.source.state()).lastSequence - this.next + 1)
  }

  /** Stops. The next publisher publishes the outcomes that are not stored yet. */
  async stop(): Promise<void> {
    this.stopped = true
    this.unlisten()
    this.cancelTurn()
    await this.work
    await this.stopTail()
    this.pauses.endAll()
    await Promise.all(this.inFlight.values())
    await this.checkpoint().catch((error) =>
      this.options.log.debug({ error }, 'cannot write the last position of published outcomes'),
    )
  }

  private turnNow(): void {
    if (this.stopped) return
    this.cancelTurn()
    this.work = this.work
      .then(() => (this.stopped ? undefined : this.turn()))
      .catch((error) => this.options.log.warn({ error }, 'cannot publish outcomes: the next turn tries again'))
      .then(() => {
        this.cancelTurn()
        if (!this.stopped) this.cancelTurn = this.options.clock.after(this.options.checkpointMs, () => this.turnNow())
      })
  }

  private async turn(): Promise<void> {
    const { feeds, source, inflightMax } = this.options
    await this.rewindFor(this.sinceOf(feeds.all()))
    if (this.known.size === 0) return this.stopTail()
    if (!this.tail && this.inFlight.size <= inflightMax / 2) {
      // No feed needs the events before the oldest feed.
      this.next = Math.max(this.next, Math.min(...this.known.values()) + 1)
      const number = ++this.tailNumber
      // Without a filter, because the server refuses a filter that is wider than one subject of the stream.
      const tail = await source.tail({ fromSequence: this.next }, (record) => {
        if (number === this.tailNumber) this.read(record)
      })
      // The first records may arrive before tail() returns, and reach the limit that stops the tail.
      if (number === this.tailNumber) this.tail = tail
      else await tail.stop()
    }
    await this.checkpoint()
  }

  /** A new feed may need events that this process has read before it learned of the feed. */
  private async rewindFor(present: Map<string, number>): Promise<void> {
    const isNew = ([project, since]: [string, number]) => this.known.get(project) !== since
    const from = Math.min(...[...present].filter(isNew).map(([, since]) => since + 1))
    this.known = present
    if (from >= this.next) return
    await this.stopTail()
    this.next = from
  }

  private async stopTail(): Promise<void> {
    this.tailNumber++
    const tail = this.tail
    this.tail = null
    await tail?.stop()
  }

  private read(record: LogRecord): void {
    const { feeds, index, inflightMax, log } = this.options
    const { sequence, subject, body } = record
    this.next = sequence + 1
    if (!subject.endsWith(FINAL) || isMoved(record)) return
    try {
      const end = decodeFinal(body)
      const feed = feeds.of(end.project)
      if (feed === null || sequence <= sinceIn(feed, index) || this.inFlight.has(sequence)) return
      const id = BigInt(subject.split('.')[2] ?? '')
      const publishing = this.publish(id, end).then((isDone) => {
        if (isDone) this.finish(sequence)
      })
      this.inFlight.set(sequence, publishing)
    } catch (error) {
      log.error({ error, subject }, 'cannot decode an event: its outcome is not published')
    }
    if (this.inFlight.size >= inflightMax) void this.stopTail()
  }

  private finish(sequence: number): void {
    const { inflightMax } = this.options
    this.inFlight.delete(sequence)
    if (!this.tail && this.inFlight.size === Math.floor(inflightMax / 2)) this.turnNow()
  }

  /** Repeats until the outcome is stored (true) or this process stops (false). Never rejects. */
  private async publish(id: bigint, end: FinalEvent): Promise<boolean> {
    const { events, published, retryMs, registrationIdOf, metrics, log } = this.options
    for (let reads = 1; !this.stopped; reads++) {
      try {
        const accepted = await events.readAccepted(id)
        if (accepted !== null || reads >= READS_MAX) {
          const event = outcomeEventOf(id, end, accepted, registrationIdOf)
          await published.append(outcomeEventSubject(end.project, end.kind), encodeOutcomeEvent(event), {
            messageId: event.id,
          })
          countUp(metrics.published, end.kind)
          return true
        }
      } catch (error) {
        if (!(error instanceof BrokerError)) {
          log.error({ error, id: String(id) }, 'cannot decode an event: its outcome is not published')
          return true
        }
        log.debug({ error }, 'cannot publish an outcome: the next attempt follows')
      }
      await this.pauses.wait(retryMs)
    }
    return false
  }

  private async checkpoint(): Promise<void> {
    const { states, index } = this.options
    const done = Math.min(this.next, ...this.inFlight.keys()) - 1
    if (done === this.written) return
    await states.writePosition(index, done)
    this.written = done
  }

  private sinceOf(feeds: Iterable<FeedRecord>): Map<string, number> {
    return new Map([...feeds].map((feed) => [feed.id, sinceIn(feed, this.options.index)]))
  }
}

const sinceIn = (feed: FeedRecord, index: number) => feed.since[index] ?? 0
