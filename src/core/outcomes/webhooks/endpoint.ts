/**
 * The webhook of one project: takes events from its durable consumer, POSTs them in batches, and acknowledges those that the
 * receiver accepted. The others stay in memory while they are tried again soon, and in the stream while the webhook is paused.
 */

import { outcomeEventsFilter, webhookDurable } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { ConsumeOptions, Consumption, Delivery, Log } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import { countUp } from '../../../observe/plain-metrics.js'
import type { FinalKind } from '../../../store/events.js'
import type { Webhook } from '../../../store/feeds.js'
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
  /** Of this webhook. */
  keeper: StateKeeper
  slots: Slots
  poster: Poster
  /** The receiver answered 410. Resolves when the webhook is stored as disabled. */
  gone: (url: string) => Promise<void>
}

/** The server waits this long for an acknowledgement. Events that are held longer are reported as worked on. */
const ACK_WAIT_MS = 30_000
const WORKING_MS = ACK_WAIT_MS / 3

/** The durable consumer of a project's webhook. It begins when the webhook is set. */
export const consumerOf = (project: string, { pendingMax }: Pick<WebhookSettings, 'pendingMax'>): ConsumeOptions => ({
  durable: webhookDurable(project),
  filter: outcomeEventsFilter(project),
  startsAt: 'new',
  ackWaitMs: ACK_WAIT_MS,
  pendingMax,
})

export class Endpoint {
  private readonly queue: Delivery[] = []
  /** Batches that failed. They are sent again unchanged: the same events under the same id. */
  private readonly again: Delivery[][] = []
  private readonly posting = new Set<Delivery[]>()
  private consumption: Consumption | null = null
  private opening: Promise<void> | null = null
  private failures = 0
  /** Nothing is sent before this time; Infinity: nothing until an operator asks for it. */
  private blockedUntilMs = 0
  private readonly abort = new AbortController()
  private readonly underWay = new Set<Promise<void>>()
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

  /** Rejects with BrokerError where the store is away. */
  async start(): Promise<void> {
    await this.open()
    this.keepWorking()
  }

  /** The record was changed: the new values hold from now on. If an operator asked for an attempt, it is made at once. */
  change(webhook: Webhook): void {
    const isAsked = webhook.attempt !== this.webhook.attempt
    this.webhook = webhook
    if (isAsked) this.unblock()
  }

  get createdAtMs(): number {
    return this.webhook.createdAtMs
  }

  get state(): 'ok' | 'failing' | 'paused' {
    return this.options.keeper.state.state
  }

  /** POSTs under way have `drainMs` to be answered. Events that were not accepted come again, here or in another process. */
  async stop(drainMs: number): Promise<void> {
    this.stopped = true
    this.cancelWorking()
    this.cancelRetry()
    await this.opening
    await this.consumption?.stop()
    const drained = this.pauses.wait(drainMs).then(() => this.abort.abort())
    await Promise.all(this.underWay)
    this.pauses.endAll()
    await drained
    // A nack, so that the next process gets them soon and not after the acknowledgement wait.
    for (const delivery of this.held()) delivery.nack(0)
    await this.options.keeper.stop()
  }

  private async open(): Promise<void> {
    const { stream, project, settings } = this.options
    const consumption = await stream.consume(consumerOf(project, settings), (delivery) => this.take(delivery))
    if (this.stopped) await consumption.stop()
    else this.consumption = consumption
  }

  private take(delivery: Delivery): void {
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
    const most = keeper.state.failingSinceMs === null ? settings.postsPerProjectMax : 1
    while (!this.stopped && this.posting.size < most && clock.now() >= this.blockedUntilMs) {
      const batch = this.again.shift() ?? this.unexpired(this.queue.splice(0, settings.batchMax))
      if (batch.length === 0) {
        if (this.queue.length === 0) return
        continue
      }
      this.posting.add(batch)
      const sending = this.send(batch).finally(() => {
        this.underWay.delete(sending)
        this.pump()
      })
      this.underWay.add(sending)
    }
  }

  /** Never rejects. */
  private async send(batch: Delivery[]): Promise<void> {
    const { slots, poster, clock, metrics } = this.options
    const release = await slots.take()
    try {
      if (this.stopped) return
      const { url, secrets } = this.webhook
      const body = bodyOf(batch)
      const headers = {
        ...signedHeaders(secrets, batchIdOf(batch.map((delivery) => delivery.body)), body, clock.now()),
        ...{ 'content-type': 'application/json', 'user-agent': 'Borealis-Webhooks/1' },
      }
      const outcome = await poster.post({ url, headers, body, signal: this.abort.signal })
      countUp(metrics.webhookPosts, nameOf(outcome))
      this.posting.delete(batch)
      if (isTaken(outcome)) this.taken(batch)
      else await this.refused(batch, outcome, url)
    } finally {
      release()
    }
  }

  private taken(batch: Delivery[]): void {
    const { keeper, clock, log, project, metrics } = this.options
    for (const delivery of batch) delivery.ack()
    metrics.webhookEvents += batch.length
    if (keeper.state.failingSinceMs !== null) log.info({ project }, 'a webhook works again')
    this.failures = 0
    keeper.set({ state: 'ok', lastSuccessAtMs: clock.now(), failingSinceMs: null })
  }

  private async refused(batch: Delivery[], outcome: PostOutcome, url: string): Promise<void> {
    const { keeper, clock, log, project, settings } = this.options
    const unexpired = this.unexpired(batch)
    if (unexpired.length > 0) this.again.push(unexpired)
    if (this.stopped) return
    const nowMs = clock.now()
    const error = outcome.answered ? `status ${outcome.status}` : outcome.error
    const failingSinceMs = keeper.state.failingSinceMs ?? nowMs
    if (keeper.state.failingSinceMs === null) log.warn({ project, origin: originOf(url), error }, 'a webhook fails')
    // Several POSTs that failed at once are one failure.
    if (nowMs >= this.blockedUntilMs) this.failures++
    const isPaused = nowMs - failingSinceMs >= settings.pauseAfterMs
    if (isPaused && keeper.state.state !== 'paused') log.warn({ project, error }, 'a webhook is paused')
    keeper.set({
      ...{ state: isPaused ? 'paused' : 'failing', lastFailureAtMs: nowMs, lastError: error, failingSinceMs },
    })
    const isGone = outcome.answered && outcome.status === GONE && this.webhook.url === url
    if (isGone && (await this.disabled(url))) return
    this.block(isPaused ? settings.pausedRetryMs : this.waitAfter(outcome))
    if (isPaused) await this.leaveToStream()
  }

  /** False where that could not be stored: then the 410 is a failure like any other, and the webhook is tried again. */
  private async disabled(url: string): Promise<boolean> {
    const { gone, log, project } = this.options
    this.blockedUntilMs = Number.POSITIVE_INFINITY
    try {
      await gone(url)
      return true
    } catch (error) {
      log.warn({ error, project }, 'a webhook that is gone could not be disabled')
      return false
    }
  }

  private waitAfter(outcome: PostOutcome): number {
    const { settings, random } = this.options
    const askedMs = (outcome.answered && outcome.retryAfterMs) || 0
    return Math.max(backoffOf(this.failures, settings, random), Math.min(askedMs, settings.backoffMaxMs))
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
      log.warn({ error, project }, 'a webhook that was paused waits for the store')
      if (!this.stopped) this.block(settings.backoffMs)
    }
    this.opening = null
  }

  /** While the webhook is paused, its events wait in the stream. */
  private async leaveToStream(): Promise<void> {
    const consumption = this.consumption
    this.consumption = null
    await consumption?.stop()
    for (const delivery of [...this.queue.splice(0), ...this.again.splice(0).flat()]) delivery.nack(0)
  }

  /** The events that are not too old. The others are given up. */
  private unexpired(batch: Delivery[]): Delivery[] {
    const { clock, settings, keeper, metrics, log, project } = this.options
    const sinceMs = clock.now() - settings.retryForMs
    const old = batch.filter(({ storedAtMs }) => storedAtMs < sinceMs)
    if (old.length === 0) return batch
    for (const delivery of old) delivery.ack()
    metrics.webhookGivenUp += old.length
    keeper.set({ givenUp: keeper.state.givenUp + old.length })
    log.warn({ project, events: old.length }, 'events of a webhook were too old and are given up')
    return batch.filter(({ storedAtMs }) => storedAtMs >= sinceMs)
  }

  private held(): Delivery[] {
    return [...this.queue, ...this.again.flat(), ...[...this.posting].flat()]
  }

  private keepWorking(): void {
    this.cancelWorking = this.options.clock.after(WORKING_MS, () => {
      for (const delivery of this.held()) delivery.working()
      this.keepWorking()
    })
  }
}

const GONE = 410

const isTaken = (outcome: PostOutcome) => outcome.answered && outcome.status >= 200 && outcome.status < 300

/** The label for metrics: one of a few known words. */
function nameOf(outcome: PostOutcome): string {
  if (!outcome.answered)
    return outcome.error === 'timeout' || outcome.error === 'address_refused' ? outcome.error : 'failed'
  return `${Math.floor(outcome.status / 100)}xx`
}
