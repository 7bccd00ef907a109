/**
 * The webhook of one project. It reads events from its durable consumer, POSTs them in batches, and acknowledges those that
 * the receiver accepted. Events whose POST failed stay in memory for the next attempt; while the webhook is paused, events
 * stay in the stream.
 */
import { outcomeEventsFilter, webhookDurable } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { ConsumeOptions, Consumption, Delivery, Log } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import { countUp } from '../../../observe/plain-metrics.js'
import type { FinalKind } from '../../../store/events.js'
import { type Webhook, type WebhookSecret, webhookPlace } from '../../../store/feeds.js'
import { open, type SecretsKeys } from '../../../store/sealed-secrets.js'
import type { CoreMetrics } from '../../metrics.js'
import { Pauses } from '../pauses.js'
import { backoffOf } from './backoff.js'
import { bodyOf, type Poster, type PostOutcome } from './post.js'
import type { WebhookSettings } from './settings.js'
import { batchIdOf, signedHeaders } from './signature.js'
import type { Slots } from './slots.js'
import type { StateKeeper } from './state-keeper.js'
import { originOf } from './url.js'

export interface EndpointOptions {
  clock: Clock
  random: () => number
  log: Logger
  metrics: CoreMetrics
  settings: WebhookSettings
  project: string
  /** PUSH_EVENTS. */
  stream: Log
  keeper: StateKeeper
  secrets: SecretsKeys
  slots: Slots
  poster: Poster
  /** The receiver answered 410. Resolves when the webhook is stored as disabled. */
  gone: (url: string) => Promise<void>
}

/** JetStream's wait for an acknowledgement. `working()` extends it for events that are held longer. */
const ACK_WAIT_MS = 30_000
const WORKING_MS = ACK_WAIT_MS / 3

/** The durable consumer of a project's webhook. It is created when the webhook is set. */
export const consumerOf = (project: string, { pendingMax }: Pick<WebhookSettings, 'pendingMax'>): ConsumeOptions => ({
  durable: webhookDurable(project),
  filter: outcomeEventsFilter(project),
  startsAt: 'new',
  ackWaitMs: ACK_WAIT_MS,
  pendingMax,
})

export class Endpoint {
  private readonly queue: Delivery[] = []
  /** Failed batches. They are sent again unchanged, so that the same events have the same batch id. */
  private readonly failed: Delivery[][] = []
  private readonly posting = new Set<Delivery[]>()
  private consumption: Consumption | null = null
  private opening: Promise<void> | null = null
  private failures = 0
  /** No POST starts before this time; Infinity: before an operator requests an attempt. */
  private blockedUntilMs = 0
  private readonly abort = new AbortController()
  private readonly inFlight = new Set<Promise<void>>()
  private readonly pauses: Pauses
  private cancelWorking = () => {}
  private cancelRetry = () => {}
  private stopped = false

  constructor(
    private readonly options: EndpointOptions,
    private webhook: Webhook,
  ) {
    this.pauses = new Pauses(options.clock)
  }

  /** Rejects with BrokerError. */
  async start(): Promise<void> {
    await this.open()
    this.keepWorking()
  }

  /** Uses the values of a changed record. If an operator requested an attempt, makes it at once. */
  update(webhook: Webhook): void {
    const isAttemptRequested = webhook.attempt !== this.webhook.attempt
    this.webhook = webhook
    if (isAttemptRequested) this.unblock()
  }

  get createdAtMs(): number {
    return this.webhook.createdAtMs
  }

  get state(): 'ok' | 'failing' | 'paused' {
    return this.options.keeper.state.state
  }

  /** Waits at most `drainMs` for pending POSTs. JetStream delivers events that were not accepted again, to any process. */
  async stop(drainMs: number): Promise<void> {
    this.stopped = true
    this.cancelWorking()
    this.cancelRetry()
    await this.opening
    await this.consumption?.stop()
    const drained = this.pauses.wait(drainMs).then(() => this.abort.abort())
    await Promise.all(this.inFlight)
    this.pauses.endAll()
    await drained
    // With a nack, the next process gets the events at once and not after ACK_WAIT_MS.
    for (const delivery of this.held()) delivery.nack(0)
    await this.options.keeper.stop()
  }

  private async open(): Promise<void> {
    const { stream, project, settings } = this.options
    const consumption = await stream.consume(consumerOf(project, settings), (delivery) => this.receive(delivery))
    if (this.stopped) await consumption.stop()
    else this.consumption = consumption
  }

  private receive(delivery: Delivery): void {
    const { kinds } = this.webhook
    const kind = delivery.subject.slice(delivery.subject.lastIndexOf('.') + 1)
    if (this.stopped) delivery.nack(0)
    else if (kinds !== null && !kinds.includes(kind as FinalKind)) delivery.ack()
    else {
      this.queue.push(delivery)
      this.pump()
    }
  }

  private pump(): void {
    const { settings, clock, keeper } = this.options
    const postsMax = keeper.state.failingSinceMs === null ? settings.postsPerProjectMax : 1
    while (!this.stopped && this.posting.size < postsMax && clock.now() >= this.blockedUntilMs) {
      const batch = this.failed.shift() ?? this.giveUpExpired(this.queue.splice(0, settings.batchMax))
      if (batch.length === 0) {
        if (this.queue.length === 0) return
        continue
      }
      this.posting.add(batch)
      const sending = this.send(batch).finally(() => {
        this.inFlight.delete(sending)
        this.pump()
      })
      this.inFlight.add(sending)
    }
  }

  /** Never rejects. */
  private async send(batch: Delivery[]): Promise<void> {
    const { slots, metrics } = this.options
    const release = await slots.take()
    try {
      if (this.stopped) return
      const { url } = this.webhook
      const outcome = await this.post(batch, url)
      countUp(metrics.webhookPosts, nameOf(outcome))
      this.posting.delete(batch)
      if (isAccepted(outcome)) this.handleAccepted(batch)
      else await this.handleFailure(batch, outcome, url)
    } finally {
      release()
    }
  }

  private async post(batch: Delivery[], url: string): Promise<PostOutcome> {
    const { poster, clock } = this.options
    const secrets = this.openSecrets()
    // Without a signature, no receiver could know that the events are ours.
    if (secrets.length === 0) return { answered: false, error: SECRET_UNREADABLE }
    const body = bodyOf(batch)
    const headers = {
      ...signedHeaders(secrets, batchIdOf(batch.map((delivery) => delivery.body)), body, clock.now()),
      ...{ 'content-type': 'application/json', 'user-agent': 'Borealis-Webhooks/1' },
    }
    return poster.post({ url, headers, body, signal: this.abort.signal })
  }

  /** In clear text, without those whose key the keyring lacks. */
  private openSecrets(): WebhookSecret[] {
    const { project, secrets } = this.options
    return this.webhook.secrets.flatMap((one) => {
      const secret = open(secrets, one.secret, webhookPlace(project))
      return secret === null ? [] : [{ ...one, secret }]
    })
  }

  private handleAccepted(batch: Delivery[]): void {
    const { keeper, clock, log, project, metrics } = this.options
    for (const delivery of batch) delivery.ack()
    metrics.webhookEvents += batch.length
    if (keeper.state.failingSinceMs !== null) log.info({ project }, 'a webhook works again')
    this.failures = 0
    keeper.set({ state: 'ok', lastSuccessAtMs: clock.now(), failingSinceMs: null })
  }

  private async handleFailure(batch: Delivery[], outcome: PostOutcome, url: string): Promise<void> {
    const { keeper, clock, log, project, settings } = this.options
    const unexpired = this.giveUpExpired(batch)
    if (unexpired.length > 0) this.failed.push(unexpired)
    if (this.stopped) return
    const nowMs = clock.now()
    const error = outcome.answered ? `status ${outcome.status}` : outcome.error
    const failingSinceMs = keeper.state.failingSinceMs ?? nowMs
    if (keeper.state.failingSinceMs === null) log.warn({ project, origin: originOf(url), error }, 'a webhook fails')
    // POSTs that fail together count as one failure: the first of them has blocked the webhook.
    if (nowMs >= this.blockedUntilMs) this.failures++
    const isPaused = nowMs - failingSinceMs >= settings.pauseAfterMs
    if (isPaused && keeper.state.state !== 'paused') log.warn({ project, error }, 'a webhook is paused')
    keeper.set({
      state: isPaused ? 'paused' : 'failing',
      lastFailureAtMs: nowMs,
      lastError: error,
      failingSinceMs,
    })
    const isGone = outcome.answered && outcome.status === GONE && this.webhook.url === url
    if (isGone && (await this.disable(url))) return
    this.block(isPaused ? settings.pausedRetryMs : this.waitAfter(outcome))
    if (isPaused) await this.returnToStream()
  }

  /** Resolves with false if the write failed. The 410 then counts as a failure, and the webhook is tried again. */
  private async disable(url: string): Promise<boolean> {
    const { gone, log, project } = this.options
    this.blockedUntilMs = Number.POSITIVE_INFINITY
    try {
      await gone(url)
      return true
    } catch (error) {
      log.warn({ error, project }, 'cannot disable a webhook whose receiver answered 410')
      return false
    }
  }

  private waitAfter(outcome: PostOutcome): number {
    const { settings, random } = this.options
    const retryAfterMs = (outcome.answered && outcome.retryAfterMs) || 0
    return Math.max(backoffOf(this.failures, settings, random), Math.min(retryAfterMs, settings.backoffMaxMs))
  }

  private block(ms: number): void {
    const { clock } = this.options
    this.blockedUntilMs = clock.now() + ms
    this.cancelRetry()
    this.cancelRetry = clock.after(ms, () => this.unblock())
  }

  private unblock(): void {
    this.cancelRetry()
    this.blockedUntilMs = 0
    if (this.consumption) this.pump()
    else this.opening ??= this.reopen()
  }

  /** Never rejects. */
  private async reopen(): Promise<void> {
    const { log, project, settings } = this.options
    try {
      await this.open()
    } catch (error) {
      log.warn({ error, project }, 'cannot read events for a webhook: the next attempt follows')
      if (!this.stopped) this.block(settings.backoffMs)
    }
    this.opening = null
  }

  /** The webhook is paused: its events wait in the stream, and not in memory. */
  private async returnToStream(): Promise<void> {
    const consumption = this.consumption
    this.consumption = null
    await consumption?.stop()
    for (const delivery of [...this.queue.splice(0), ...this.failed.splice(0).flat()]) delivery.nack(0)
  }

  /** Gives up the events that are too old, and returns the others. */
  private giveUpExpired(batch: Delivery[]): Delivery[] {
    const { clock, settings, keeper, metrics, log, project } = this.options
    const sinceMs = clock.now() - settings.retryForMs
    const old = batch.filter(({ storedAtMs }) => storedAtMs < sinceMs)
    if (old.length === 0) return batch
    for (const delivery of old) delivery.ack()
    metrics.webhookGivenUp += old.length
    keeper.set({ givenUp: keeper.state.givenUp + old.length })
    log.warn({ project, events: old.length }, 'gave up events of a webhook, because they are too old')
    return batch.filter(({ storedAtMs }) => storedAtMs >= sinceMs)
  }

  private held(): Delivery[] {
    return [...this.queue, ...this.failed.flat(), ...[...this.posting].flat()]
  }

  private keepWorking(): void {
    this.cancelWorking = this.options.clock.after(WORKING_MS, () => {
      for (const delivery of this.held()) delivery.working()
      this.keepWorking()
    })
  }
}

const GONE = 410
/** The keyring lacks the key of every secret. */
const SECRET_UNREADABLE = 'secret_unreadable'

const isAccepted = (outcome: PostOutcome) => outcome.answered && outcome.status >= 200 && outcome.status < 300

/** The label of an outcome in the metrics. It has few values, so errors of Node are one of them. */
function nameOf(outcome: PostOutcome): string {
  if (!outcome.answered)
    return outcome.error === 'timeout' || outcome.error === 'address_refused' ? outcome.error : 'failed'
  return `${Math.floor(outcome.status / 100)}xx`
}
