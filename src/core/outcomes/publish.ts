/**
 * Publishes the outcomes of messages to projects that turned events on. It tails the final events of one EVENTS stream, from
 * which the counters are folded too, and appends one event for each to PUSH_EVENTS.
 *
 * Each event is published at least once: the position is written after the events before it are stored. The id of an event
 * comes from its target, so that the stream drops a repeat within its duplicate window. Without any feed nothing is tailed.
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

export interface NotifyOptions {
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
  /** The most events under way; beyond it the tail stops until half of them are stored. */
  inflightMax: number
}

const FINAL = '.final'
/** A cancel writes the final event first and the accepted event right after it. If it dies in between, there is none. */
const LOOKS_MAX = 10

export class OutcomePublisher {
  /** The next record to read. All before it were read, or no feed wants them. */
  private next = 1
  private readonly underWay = new Map<number, Promise<void>>()
  private tail: Consumption | null = null
  /** Counts tails, so that late records of a stopped tail are ignored. */
  private attempt = 0
  /** The feeds of the last turn, each with the sequence after which its events begin. */
  private known = new Map<string, number>()
  private written = 0
  private readonly pauses: Pauses
  private work: Promise<void> = Promise.resolve()
  private cancelTurn = () => {}
  private unlisten = () => {}
  private stopped = false

  constructor(private readonly options: NotifyOptions) {
    this.pauses = new Pauses(options.clock)
  }

  /** Rejects with BrokerError where the store is away. */
  async start(): Promise<void> {
    const { states, index, feeds } = this.options
    this.written = await states.position(index)
    this.next = this.written + 1
    // The publisher before this one knew these feeds, so the position covers them.
    this.known = this.sinceOf(feeds.all())
    this.unlisten = feeds.onChange(() => this.turnNow())
    this.turnNow()
  }

  /** Events under way. */
  get inflight(): number {
    return this.underWay.size
  }

  /** Records of EVENTS that were not read yet. */
  async lag(): Promise<number> {
    if (this.options.feeds.isEmpty) return 0
    return Math.max(0, (await this.options.source.state()).lastSequence - this.next + 1)
  }

  /** The next publisher publishes the events that are not stored yet. */
  async stop(): Promise<void> {
    this.stopped = true
    this.unlisten()
    this.cancelTurn()
    await this.work
    await this.letGo()
    this.pauses.endAll()
    await Promise.all(this.underWay.values())
    await this.checkpoint().catch((error) =>
      this.options.log.debug({ error }, 'the last position of published events could not be written'),
    )
  }

  private turnNow(): void {
    if (this.stopped) return
    this.cancelTurn()
    this.work = this.work
      .then(() => (this.stopped ? undefined : this.turn()))
      .catch((error) => this.options.log.warn({ error }, 'events cannot be published now: the next turn tries again'))
      .then(() => {
        this.cancelTurn()
        if (!this.stopped) this.cancelTurn = this.options.clock.after(this.options.checkpointMs, () => this.turnNow())
      })
  }

  private async turn(): Promise<void> {
    const { feeds, source, inflightMax } = this.options
    await this.goBackFor(this.sinceOf(feeds.all()))
    if (this.known.size === 0) return this.letGo()
    if (!this.tail && this.underWay.size <= inflightMax / 2) {
      // An event from before the oldest feed has no reader.
      this.next = Math.max(this.next, Math.min(...this.known.values()) + 1)
      const attempt = ++this.attempt
      // Without a filter: the server refuses one that is wider than a subject of the stream, which is one partition.
      const tail = await source.tail({ fromSequence: this.next }, (record) => {
        if (attempt === this.attempt) this.look(record)
      })
      // Its first records may arrive before it is returned here, and be so many that they stopped it.
      if (attempt === this.attempt) this.tail = tail
      else await tail.stop()
    }
    await this.checkpoint()
  }

  /** This process may hear of a new feed only after events that the feed wants have passed. */
  private async goBackFor(present: Map<string, number>): Promise<void> {
    const isNew = ([project, since]: [string, number]) => this.known.get(project) !== since
    const from = Math.min(...[...present].filter(isNew).map(([, since]) => since + 1))
    this.known = present
    if (from >= this.next) return
    await this.letGo()
    this.next = from
  }

  private async letGo(): Promise<void> {
    this.attempt++
    const tail = this.tail
    this.tail = null
    await tail?.stop()
  }

  private look(record: LogRecord): void {
    const { feeds, index, inflightMax, log } = this.options
    const { sequence, subject, body } = record
    this.next = sequence + 1
    if (!subject.endsWith(FINAL) || isMoved(record)) return
    try {
      const end = decodeFinal(body)
      const feed = feeds.of(end.project)
      if (feed === null || sequence <= sinceIn(feed, index) || this.underWay.has(sequence)) return
      const id = BigInt(subject.split('.')[2] ?? '')
      const publishing = this.publish(id, end).then((isDone) => {
        if (isDone) this.done(sequence)
      })
      this.underWay.set(sequence, publishing)
    } catch (error) {
      log.error({ error, subject }, 'an event cannot be read, and is not published')
    }
    if (this.underWay.size >= inflightMax) void this.letGo()
  }

  private done(sequence: number): void {
    const { inflightMax } = this.options
    this.underWay.delete(sequence)
    if (!this.tail && this.underWay.size === Math.floor(inflightMax / 2)) this.turnNow()
  }

  /** Tries until the event is stored (true) or this process stops (false). Never rejects. */
  private async publish(id: bigint, end: FinalEvent): Promise<boolean> {
    const { events, published, retryMs, registrationIdOf, metrics, log } = this.options
    for (let looks = 1; !this.stopped; looks++) {
      try {
        const accepted = await events.readAccepted(id)
        if (accepted !== null || looks >= LOOKS_MAX) {
          const event = outcomeEventOf(id, end, accepted, registrationIdOf)
          await published.append(outcomeEventSubject(end.project, end.kind), encodeOutcomeEvent(event), {
            messageId: event.id,
          })
          countUp(metrics.published, end.kind)
          return true
        }
      } catch (error) {
        if (!(error instanceof BrokerError)) {
          log.error({ error, id: String(id) }, 'an event cannot be read, and is not published')
          return true
        }
        log.debug({ error }, 'an event could not be published: the next attempt follows')
      }
      await this.pauses.wait(retryMs)
    }
    return false
  }

  private async checkpoint(): Promise<void> {
    const { states, index } = this.options
    const done = Math.min(this.next, ...this.underWay.keys()) - 1
    if (done === this.written) return
    await states.writePosition(index, done)
    this.written = done
  }

  private sinceOf(feeds: Iterable<FeedRecord>): Map<string, number> {
    return new Map([...feeds].map((feed) => [feed.id, sinceIn(feed, this.options.index)]))
  }
}

const sinceIn = (feed: FeedRecord, index: number) => feed.since[index] ?? 0
