/** What a core counts: plain numbers, read by the metrics when somebody asks. */
import { CodedError } from '../../protocol/errors.js'
import type { MetricsRegistry } from '../observe/metrics.js'
import { countUp, PlainMetrics } from '../observe/plain.js'
import { EventLog, type FinalEvent, type FinalKind, type FinalOutcome, type TraceEvent } from '../store/events.js'
import type { AcceptMessage } from './domain/commands.js'

/** A step of the flow while this process has it. */
export interface WatchedStep {
  /** Such as `route.0`. */
  name: string
  /** Messages taken and not done with. */
  inHand(): number
  /** Messages that are stored and not taken. Rejects where the store does not say. */
  lag(): Promise<number>
}

export class CoreFigures {
  /** `accepted`, or the code of the refusal. */
  readonly accepts = new Map<string, number>()
  /** Unicast targets accepted. */
  targets = 0
  /** Sent to a worker. */
  routed = 0
  /** Delivered again by the store: what a crash or a silence left over. */
  redelivered = 0
  /** Given back to the store, to come again. */
  givenBack = 0
  /** Acknowledgements of parked messages, confirmed to workers. */
  settled = 0
  /** Ends that this process wrote. */
  readonly ended = new Map<FinalKind, number>()
  /** Why messages were parked. */
  readonly parked = new Map<string, number>()
  readonly steps = new Set<WatchedStep>()
  /** Events stored for app servers. */
  readonly told = new Map<FinalKind, number>()
  /** POSTs to webhooks: `2xx` to `5xx`, `timeout`, `address_refused`, `failed`. */
  readonly webhookPosts = new Map<string, number>()
  /** Events that a webhook took. */
  webhookEvents = 0
  /** Events that a webhook did not take until they were too old. */
  webhookGivenUp = 0
  /** Webhooks that this process delivers to, by state: `ok`, `failing`, `paused`. */
  webhooks: () => Map<string, number> = () => new Map()
}

export function registerCoreFigures(figures: CoreFigures, connected: () => boolean, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_core_')
  const steps = () => [...figures.steps]
  plain.counts('messages_total', 'Messages offered, by what became of them.', 'outcome', () => figures.accepts)
  plain.count('targets_total', 'Unicast targets accepted.', () => figures.targets)
  plain.count('routed_total', 'Messages sent to a worker.', () => figures.routed)
  plain.count('redelivered_total', 'Messages that the store delivered again.', () => figures.redelivered)
  plain.count('given_back_total', 'Messages given back to the store, to come again.', () => figures.givenBack)
  plain.counts('parked_total', 'Messages parked, by why.', 'reason', () => figures.parked)
  plain.count('settled_total', 'Acknowledgements of parked messages, settled.', () => figures.settled)
  plain.counts('ended_total', 'Targets that came to their end, written by this process.', 'kind', () => figures.ended)
  plain.counts('events_told_total', 'Events stored for app servers.', 'kind', () => figures.told)
  plain.counts('webhook_posts_total', 'POSTs to webhooks, by how they ended.', 'outcome', () => figures.webhookPosts)
  plain.count('webhook_events_total', 'Events that webhooks took.', () => figures.webhookEvents)
  plain.count('webhook_given_up_total', 'Events that webhooks did not take in time.', () => figures.webhookGivenUp)
  plain.levels('webhooks', 'Webhooks that this process delivers to.', 'state', async () => figures.webhooks())
  plain.levels('in_hand', 'Messages taken from the store and not done with.', 'step', async () =>
    steps().map((step) => [step.name, step.inHand()] as const),
  )
  plain.levels('lag', 'Records that a step has still to take; absent while NATS does not say.', 'step', async () => {
    const lags = await Promise.allSettled(steps().map(async (step) => [step.name, await step.lag()] as const))
    return lags.flatMap((lag) => (lag.status === 'fulfilled' ? [lag.value] : []))
  })
  plain.level('nats_connected', '1: connected to NATS.', () => Number(connected()), 'min')
}

/** An accept step that counts how it answers. */
export function countedAccept(accept: AcceptMessage, figures: CoreFigures): AcceptMessage {
  return async (command) => {
    try {
      const accepted = await accept(command)
      countUp(figures.accepts, 'accepted')
      figures.targets += command.targets.length
      return accepted
    } catch (error) {
      countUp(figures.accepts, error instanceof CodedError ? error.code : 'internal')
      throw error
    }
  }
}

/** The events as they are, and counted: whatever ends or parks a message writes one. */
export class CountedEvents extends EventLog {
  constructor(
    private readonly figures: CoreFigures,
    ...log: ConstructorParameters<typeof EventLog>
  ) {
    super(...log)
  }

  override async final(id: bigint, event: FinalEvent): Promise<FinalOutcome> {
    const outcome = await super.final(id, event)
    if (outcome.won) countUp(this.figures.ended, event.kind)
    return outcome
  }

  override trace(id: bigint, event: TraceEvent): Promise<void> {
    if (event.step === 'parked') countUp(this.figures.parked, event.reason)
    return super.trace(id, event)
  }
}
