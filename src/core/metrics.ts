/** The metrics of a core. The steps count in plain numbers, which are read only when the metrics are scraped. */
import { CodedError } from '../../protocol/errors.js'
import { countUp, PlainMetrics } from '../observe/plain-metrics.js'
import type { MetricsRegistry } from '../observe/registry.js'
import { EventLog, type FinalEvent, type FinalKind, type FinalOutcome, type TraceEvent } from '../store/events.js'
import type { StreamFill } from '../store/fills.js'
import type { AcceptMessage } from './domain/commands.js'
import type { QueryBudget } from './domain/query-budget.js'

/** A step of the delivery that this process runs. */
export interface WatchedStep {
  /** Such as `route.0`. */
  name: string
  /** Number of messages in progress. */
  inflight(): number
  /** Number of stored messages that the step has not read yet. Rejects with BrokerError. */
  lag(): Promise<number>
}

export class CoreMetrics {
  /** Messages by result: `accepted`, or the code of the refusal. */
  readonly accepts = new Map<string, number>()
  /** Accepted targets of unicast messages. */
  targets = 0
  /** Frames sent to workers. */
  routed = 0
  /** Messages that JetStream delivered again, after a crash or without an acknowledgement in time. */
  redelivered = 0
  /** Messages that were nacked, so that JetStream delivers them again. */
  nacked = 0
  /** Settled messages that were confirmed to workers. */
  settled = 0
  /** Final events that this process wrote, by kind. */
  readonly ended = new Map<FinalKind, number>()
  /** Queued messages, by reason. */
  readonly queued = new Map<string, number>()
  readonly steps = new Set<WatchedStep>()
  /** The budget of status reads, lists, counters and cancels; null in a process without the HTTP API. */
  queries: Pick<QueryBudget, 'running' | 'waiting' | 'refused'> | null = null
  /** Ended messages whose records were removed early from a stream that was short of space, by stream. */
  readonly gaveWay = new Map<string, number>()
  /** The streams of the store, as of the last check. */
  fills: () => readonly StreamFill[] = () => []
  /** Outcomes stored for app servers, by kind. */
  readonly published = new Map<FinalKind, number>()
  /** POSTs to webhooks, by result: `2xx` to `5xx`, `timeout`, `address_refused`, `failed`. */
  readonly webhookPosts = new Map<string, number>()
  /** Events that webhooks accepted. */
  webhookEvents = 0
  /** Events that webhooks did not accept before they were too old. */
  webhookGivenUp = 0
  /** Number of webhooks that this process posts to, by state: `ok`, `failing`, `paused`. */
  webhooks: () => Map<string, number> = () => new Map()
}

export function registerCoreMetrics(metrics: CoreMetrics, connected: () => boolean, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_core_')
  const steps = () => [...metrics.steps]
  const queries = () => metrics.queries ?? { running: 0, waiting: 0, refused: 0 }
  plain.counts('messages_total', 'Messages from senders, by result.', 'outcome', () => metrics.accepts)
  plain.count('targets_total', 'Accepted targets of unicast messages.', () => metrics.targets)
  plain.count('routed_total', 'Messages sent to a worker.', () => metrics.routed)
  plain.count('redelivered_total', 'Messages that JetStream delivered again.', () => metrics.redelivered)
  plain.count('nacked_total', 'Messages nacked, so that JetStream delivers them again.', () => metrics.nacked)
  plain.counts('queued_total', 'Messages queued, by reason.', 'reason', () => metrics.queued)
  plain.count('settled_total', 'Queued messages settled after their acknowledgement.', () => metrics.settled)
  plain.counts('ended_total', 'Final events written by this process.', 'kind', () => metrics.ended)
  plain.counts(
    'outcome_events_published_total',
    'Outcome events stored for app servers.',
    'kind',
    () => metrics.published,
  )
  plain.counts('webhook_posts_total', 'POSTs to webhooks, by result.', 'outcome', () => metrics.webhookPosts)
  plain.count('webhook_events_total', 'Events that webhooks accepted.', () => metrics.webhookEvents)
  plain.count('webhook_given_up_total', 'Events that webhooks did not accept in time.', () => metrics.webhookGivenUp)
  plain.levels('webhooks', 'Webhooks that this process posts to.', 'state', async () => metrics.webhooks())
  plain.level('queries_running', 'Status reads, lists, counters and cancels that run.', () => queries().running)
  plain.level('queries_waiting', 'Status reads, lists, counters and cancels that wait.', () => queries().waiting)
  plain.count(
    'queries_refused_total',
    'Status reads, lists, counters and cancels answered `overloaded`.',
    () => queries().refused,
  )
  plain.counts(
    'gave_way_total',
    'Ended messages whose records were removed early from a stream that was short of space.',
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
    'Fill level of each stream; at 1 the stream refuses new records, or removes its oldest ones.',
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
  plain.levels('inflight', 'Messages that a step has read and not finished.', 'step', async () =>
    steps().map((step) => [step.name, step.inflight()] as const),
  )
  plain.levels('lag', 'Records that a step has not read yet; absent while NATS does not answer.', 'step', async () => {
    const lags = await Promise.allSettled(steps().map(async (step) => [step.name, await step.lag()] as const))
    return lags.flatMap((lag) => (lag.status === 'fulfilled' ? [lag.value] : []))
  })
  plain.level('nats_connected', '1: connected to NATS.', () => Number(connected()), 'min')
}

/** Wraps an accept step to count its results. */
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

/** An event log that counts the final and queued events that it writes. */
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
