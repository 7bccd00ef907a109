/** Runs an Endpoint for the webhook of each project while this process holds the lease. */
import { OUTCOME_EVENTS_STREAM } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { Broker } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import { AuditLog } from '../../../store/audit.js'
import { type FeedStates, openFeeds, type Webhook } from '../../../store/feeds.js'
import type { SecretsKeys } from '../../../store/sealed-secrets.js'
import type { CoreMetrics } from '../../metrics.js'
import type { FeedDirectory } from '../feed-directory.js'
import type { AddressGuard } from './addresses.js'
import { Endpoint } from './endpoint.js'
import { createPoster, type Poster } from './post.js'
import type { WebhookSettings } from './settings.js'
import { Slots } from './slots.js'
import { StateKeeper } from './state-keeper.js'
import { originOf } from './url.js'

export interface WebhooksOptions {
  broker: Broker
  clock: Clock
  random: () => number
  log: Logger
  metrics: CoreMetrics
  settings: WebhookSettings
  guard: AddressGuard
  feeds: FeedDirectory
  states: FeedStates
  secrets: SecretsKeys
  retryMs: number
  drainMs: number
  /** Default: a poster that uses the network. */
  poster?: Poster
}

export class Webhooks {
  private readonly endpoints = new Map<string, Endpoint>()
  private readonly slots: Slots
  private readonly poster: Poster
  private work: Promise<void> = Promise.resolve()
  private unlisten = () => {}
  private cancelRetry = () => {}
  private stopped = false

  constructor(private readonly options: WebhooksOptions) {
    const { clock, settings, guard } = options
    this.slots = new Slots(settings.postsMax)
    this.poster = options.poster ?? createPoster({ clock, guard, settings })
  }

  start(): void {
    this.unlisten = this.options.feeds.onChange(() => this.syncNow())
    this.options.metrics.webhooks = () => this.states()
    this.syncNow()
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.unlisten()
    this.cancelRetry()
    this.options.metrics.webhooks = () => new Map()
    await this.work
    await Promise.all([...this.endpoints.values()].map((endpoint) => endpoint.stop(this.options.drainMs)))
    this.endpoints.clear()
    if (!this.options.poster) this.poster.close()
  }

  private syncNow(): void {
    this.cancelRetry()
    this.work = this.work.then(() => this.sync())
  }

  /** Never rejects: a webhook that did not start is tried again. */
  private async sync(): Promise<void> {
    const { feeds, log, clock, retryMs, drainMs } = this.options
    const wanted = new Map<string, Webhook>()
    for (const { id, webhook } of feeds.all()) if (webhook && !webhook.disabled) wanted.set(id, webhook)
    // A webhook that was removed and set again is a new one, even if this process noticed only the second change.
    const ended = [...this.endpoints].filter(
      ([project, { createdAtMs }]) => wanted.get(project)?.createdAtMs !== createdAtMs,
    )
    for (const [project] of ended) this.endpoints.delete(project)
    await Promise.all(ended.map(([, endpoint]) => endpoint.stop(drainMs)))
    let isComplete = true
    await Promise.all(
      [...wanted].map(async ([project, webhook]) => {
        const endpoint = this.endpoints.get(project)
        if (endpoint) return endpoint.update(webhook)
        try {
          await this.begin(project, webhook)
        } catch (error) {
          isComplete = false
          log.warn({ error, project }, 'cannot start a webhook: the next attempt follows')
        }
      }),
    )
    if (!isComplete && !this.stopped) this.cancelRetry = clock.after(retryMs, () => this.syncNow())
  }

  private async begin(project: string, webhook: Webhook): Promise<void> {
    if (this.stopped) return
    const { broker, clock, random, log, metrics, settings, states } = this.options
    const keeper = await StateKeeper.load({ states, clock, log }, project, webhook)
    const endpoint = new Endpoint(
      {
        clock,
        random,
        log,
        metrics,
        settings,
        project,
        keeper,
        slots: this.slots,
        poster: this.poster,
        stream: broker.log(OUTCOME_EVENTS_STREAM),
        secrets: this.options.secrets,
        gone: (url) => this.disable(project, url),
      },
      webhook,
    )
    await endpoint.start()
    this.endpoints.set(project, endpoint)
  }

  private async disable(project: string, url: string): Promise<void> {
    const { broker, clock, log } = this.options
    const atMs = clock.now()
    let isDone = false
    const feed = await openFeeds(broker).update(project, (feed) => {
      const { webhook } = feed
      // The url may have changed since the POST, and another POST of the same batch may have disabled the webhook already.
      isDone = webhook !== null && webhook.url === url && webhook.disabled === null
      if (!webhook || !isDone) return feed
      return { ...feed, webhook: { ...webhook, disabled: { reason: 'gone', atMs } }, updatedAtMs: atMs }
    })
    if (!feed || !isDone) return
    const details = { origin: originOf(url), reason: 'gone' }
    log.warn({ project, ...details }, 'a webhook is disabled')
    await new AuditLog(broker).append({ atMs, actor: 'core', action: 'webhook.disable', project, details })
  }

  private states(): Map<string, number> {
    const counts = new Map<string, number>()
    for (const { state } of this.endpoints.values()) counts.set(state, (counts.get(state) ?? 0) + 1)
    return counts
  }
}
