/** What a core counts: plain numbers, read by the metrics when somebody asks. */
import { CodedError } from '../../protocol/errors.js'
import { countUp, PlainMetrics } from '../observe/plain-metrics.js'
import type { MetricsRegistry } from '../observe/registry.js'
import { EventLog, type FinalEvent, type FinalKind, type FinalOutcome, type TraceEvent } from '../store/events.js'
import type { StreamFill } from '../store/fills.js'
import type { AcceptMessage } from './domain/commands.js'
import type { QueryBudget } from './domain/query-budget.js'

/** A step of the flow while this process has it. */
export interface WatchedStep {
  /** Such as `route.0`. */
  name: string
  /** Messages taken and not done with. */
  inflight(): number
  /** Messages that are stored and not taken. Rejects where the store does not say. */
  lag(): Promise<number>
}

export class CoreMetrics {
  /** `accepted`, or the code of the refusal. */
  readonly accepts = new Map<string, number>()
  /** Unicast targets accepted. */
  targets = 0
  /** Sent to a worker. */
  routed = 0
  /** Delivered again by the store: what a crash or a silence left over. */
  redelivered = 0
  /** Given back to the store, to come again. */
  nacked = 0
  /** Acknowledgements of queued messages, confirmed to workers. */
  settled = 0
  /** Ends that this process wrote. */
  readonly ended = new Map<FinalKind, number>()
  /** Why messages were queued. */
  readonly queued = new Map<string, number>()
  readonly steps = new Set<WatchedStep>()
  /** Null in a process without the HTTP API. */
  queries: Pick<QueryBudget, 'running' | 'waiting' | 'refused'> | null = null
  /** Messages whose records left a stream that was short of room, by stream. */
  readonly gaveWay = new Map<string, number>()
  /** The streams of the store as of the last look. */
  fills: () => readonly StreamFill[] = () => []
  /** Events stored for app servers. */
  readonly published = new Map<FinalKind, number>()
  /** POSTs to webhooks: `2xx` to `5xx`, `timeout`, `address_refused`, `failed`. */
  readonly webhookPosts = new Map<string, number>()
  /** Events that a webhook took. */
  webhookEvents = 0
  /** Events that a webhook did not take until they were too old. */
  webhookGivenUp = 0
  /** Webhooks that this process delivers to, by state: `ok`, `failing`, `paused`. */
  webhooks: () => Map<string, number> = () => new Map()
}

export function registerCoreMetrics(metrics: CoreMetrics, connected: () => boolean, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_core_')
  const steps = () => [...metrics.steps]
  const queries = () => metrics.queries ?? { running: 0, waiting: 0, refused: 0 }
  plain.counts('messages_total', 'Messages offered, by what became of them.', 'outcome', () => metrics.accepts)
  plain.count('targets_total', 'Unicast targets accepted.', () => metrics.targets)
  plain.count('routed_total', 'Messages sent to a worker.', () => metrics.routed)
  plain.count('redelivered_total', 'Messages that the store delivered again.', () => metrics.redelivered)
  plain.count('nacked_total', 'Messages given back to the store (nack), to come again.', () => metrics.nacked)
  plain.counts('queued_total', 'Messages queued, by why.', 'reason', () => metrics.queued)
  plain.count('settled_total', 'Acknowledgements of queued messages, settled.', () => metrics.settled)
  plain.counts('ended_total', 'Targets that came to their end, written by this process.', 'kind', () => metrics.ended)
  plain.counts(
    'outcome_events_published_total',
    'Outcome events stored for app servers.',
    'kind',
    () => metrics.published,
  )
  plain.counts('webhook_posts_total', 'POSTs to webhooks, by how they ended.', 'outcome', () => metrics.webhookPosts)
  plain.count('webhook_events_total', 'Events that webhooks took.', () => metrics.webhookEvents)
  plain.count('webhook_given_up_total', 'Events that webhooks did not take in time.', () => metrics.webhookGivenUp)
  plain.levels('webhooks', 'Webhooks that this process delivers to.', 'state', async () => metrics.webhooks())
  plain.level('queries_running', 'Status reads, lists, counters and cancels that run.', () => queries().running)
  plain.level('queries_waiting', 'Status reads, lists, counters and cancels that wait.', () => queries().waiting)
  plain.count('queries_refused_total', 'The same, answered `overloaded`.', () => queries().refused)
  plain.counts(
    'gave_way_total',
    'Ended messages whose records left a stream that was short of room.',
    'stream',
    () => metrics.gaveWay,
  )
  const streams = (read: (fill: StreamFill) => number | null) => async () =>
    metrics.fills().flatMap((fill): [string, number][] => {
      const value = read(fill)
      return value === null ? [] : [[fill.stream, value]]
    })
  plain.levels(
    'stream_bytes',
    'Size of each stream of the store.',
    'stream',
    streams(({ bytes }) => bytes),
  )
  plain.levels(
    'stream_records',
    'Records of each stream of the store.',
    'stream',
    streams(({ records }) => records),
  )
  plain.levels(
    'stream_fill_ratio',
    'How full each stream is; 1: it refuses new records, or removes its oldest.',
    'stream',
    streams(({ ratio }) => ratio),
  )
  plain.levels(
    'stream_growth_bytes_per_day',
    'Growth of each stream over the last day, or since the start; absent in the first ten minutes.',
    'stream',
    streams(({ growthBytesPerDay }) => growthBytesPerDay),
  )
  plain.levels(
    'stream_full_in_days',
    'Days until each stream is full, if it grows as over the last day.',
    'stream',
    streams(({ fullInDays }) => fullInDays),
  )
  plain.levels('inflight', 'Messages taken from the store and not done with.', 'step', async () =>
    steps().map((step) => [step.name, step.inflight()] as const),
  )
  plain.levels('lag', 'Records that a step has still to take; absent while NATS does not say.', 'step', async () => {
    const lags = await Promise.allSettled(steps().map(async (step) => [step.name, await step.lag()] as const))
    return lags.flatMap((lag) => (lag.status === 'fulfilled' ? [lag.value] : []))
  })
  plain.level('nats_connected', '1: connected to NATS.', () => Number(connected()), 'min')
}

/** An accept step that counts how it answers. */
export function countedAccept(accept: AcceptMessage, metrics: CoreMetrics): AcceptMessage {
  return async (command) => {
    try {
      const accepted = await accept(command)
      countUp(metrics.accepts, 'accepted')
      metrics.targets += command.targets.length
      return accepted
    } catch (error) {
      countUp(metrics.accepts, error instanceof CodedError ? error.code : 'internal')
      throw error
    }
  }
}

/** The events as they are, and counted: whatever ends or enqueues a message writes one. */
export class CountedEvents extends EventLog {
  constructor(
    private readonly metrics: CoreMetrics,
    ...log: ConstructorParameters<typeof EventLog>
  ) {
    super(...log)
  }

  override async final(id: bigint, event: FinalEvent): Promise<FinalOutcome> {
    const outcome = await super.final(id, event)
    if (outcome.won) countUp(this.metrics.ended, event.kind)
    return outcome
  }

  override trace(id: bigint, event: TraceEvent): Promise<void> {
    if (event.step === 'queued') countUp(this.metrics.queued, event.reason)
    return super.trace(id, event)
  }
}
