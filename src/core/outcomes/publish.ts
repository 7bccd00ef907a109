/**
 * notify: tells projects that asked for it what became of their messages. It tails the final events of one EVENTS stream,
 * the records that the counters are folded from, and appends to PUSH_EVENTS what a project with a feed wants to know.
 *
 * At least once: the position is written after what it covers was stored, and a message id that is made from the target
 * has a repeat stored once while the duplicate window lasts. While no project has a feed nothing is tailed.
 */
import { outcomeEventSubject } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { BrokerError, type Consumption, type Log, type LogRecord } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { countUp } from '../../observe/plain-metrics.js'
import { type AcceptedEvent, decodeFinal, type EventLog, type FinalEvent } from '../../store/events.js'
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
  told: Log
  registrationIdOf: (accepted: AcceptedEvent) => string
  checkpointMs: number
  retryMs: number
  /** Events under way; with more, the tail is let go until half of them are through. */
  inflightMax: number
}

const FINAL = '.final'
/** A cancel writes the end first and what it is the end of right after it; one that died between the two never does. */
const LOOKS_MAX = 10

export class OutcomePublisher {
  /** The next record to look at; all before it were, or nobody wants them. */
  private next = 1
  private readonly underWay = new Map<number, Promise<void>>()
  private tail: Consumption | null = null
  /** Counts tails: what still comes of one that was let go is not looked at. */
  private attempt = 0
  /** Feeds as they were in the last turn, and from where on they are told. */
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
    // Whoever was here before knew them, so that the position covers them.
    this.known = this.sinceOf(feeds.all())
    this.unlisten = feeds.onChange(() => this.turnNow())
    this.turnNow()
  }

  /** Events under way. */
  get inflight(): number {
    return this.underWay.size
  }

  /** Records of EVENTS that are still to be looked at. */
  async lag(): Promise<number> {
    if (this.options.feeds.isEmpty) return 0
    return Math.max(0, (await this.options.source.state()).lastSequence - this.next + 1)
  }

  /** What is under way and not stored yet is told by whoever goes on. */
  async stop(): Promise<void> {
    this.stopped = true
    this.unlisten()
    this.cancelTurn()
    await this.work
    await this.letGo()
    this.pauses.endAll()
    await Promise.all(this.underWay.values())
    await this.checkpoint().catch((error) => this.options.log.debug({ error }, 'no last position of the events told'))
  }

  private turnNow(): void {
    if (this.stopped) return
    this.cancelTurn()
    this.work = this.work
      .then(() => (this.stopped ? undefined : this.turn()))
      .catch((error) => this.options.log.warn({ error }, 'events can not be told now'))
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
      // What ended before anybody asked is nobody's.
      this.next = Math.max(this.next, Math.min(...this.known.values()) + 1)
      const attempt = ++this.attempt
      // Without a filter: the server takes none that is wider than one of the stream's subjects, which are partitions.
      const tail = await source.tail({ fromSequence: this.next }, (record) => {
        if (attempt === this.attempt) this.look(record)
      })
      // Its first records may come before this does, and be so many that it was let go by them.
      if (attempt === this.attempt) this.tail = tail
      else await tail.stop()
    }
    await this.checkpoint()
  }

  /** A feed may have been turned on a moment before this process heard of it. */
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
    if (!subject.endsWith(FINAL)) return
    try {
      const end = decodeFinal(body)
      const feed = feeds.of(end.project)
      if (feed === null || sequence <= sinceIn(feed, index) || this.underWay.has(sequence)) return
      const id = BigInt(subject.split('.')[2] ?? '')
      const telling = this.tell(id, end).then((isDone) => {
        if (isDone) this.done(sequence)
      })
      this.underWay.set(sequence, telling)
    } catch (error) {
      log.error({ error, subject }, 'an event can not be read: it is not told')
    }
    if (this.underWay.size >= inflightMax) void this.letGo()
  }

  private done(sequence: number): void {
    const { inflightMax } = this.options
    this.underWay.delete(sequence)
    if (!this.tail && this.underWay.size === Math.floor(inflightMax / 2)) this.turnNow()
  }

  /** Until it is stored (true), or this process stops. Never rejects. */
  private async tell(id: bigint, end: FinalEvent): Promise<boolean> {
    const { events, told, retryMs, registrationIdOf, metrics, log } = this.options
    for (let looks = 1; !this.stopped; looks++) {
      try {
        const accepted = await events.readAccepted(id)
        if (accepted !== null || looks >= LOOKS_MAX) {
          const event = outcomeEventOf(id, end, accepted, registrationIdOf)
          await told.append(outcomeEventSubject(end.project, end.kind), encodeOutcomeEvent(event), {
            messageId: event.id,
          })
          countUp(metrics.published, end.kind)
          return true
        }
      } catch (error) {
        if (!(error instanceof BrokerError)) {
          log.error({ error, id: String(id) }, 'an event can not be read: it is not told')
          return true
        }
        log.debug({ error }, 'an event is told later')
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
