/**
 * What administration does with the events of a project: turns them on and off, and sets its webhook. `borealis admin` and
 * the admin API come through here; cores see each change through their watch.
 */
import { CodedError } from '../../../protocol/errors.js'
import { eventsStream, OUTCOME_EVENTS_STREAM, outcomeEventsFilter, readerDurable } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker, Log } from '../../nats/broker.js'
import { FINAL_KINDS, type FinalKind } from '../../store/events.js'
import { type FeedRecord, FeedStates, openFeeds, type Webhook, type WebhookState } from '../../store/feeds.js'
import type { RecordTable } from '../../store/tenants.js'
import type { Administration } from '../tenants/administration.js'
import type { Actor } from '../tenants/auth/roles.js'
import { getProject } from '../tenants/projects.js'
import { AddressGuard } from './webhooks/addresses.js'
import { consumerOf } from './webhooks/consumer.js'
import type { WebhookSettings } from './webhooks/settings.js'
import { goodSecrets, newWebhookSecret } from './webhooks/signature.js'
import { checkWebhookUrl, originOf, type UrlRules } from './webhooks/url.js'

export interface FeedView {
  project: string
  /** Null: events are off. */
  feed: FeedRecord | null
  state: WebhookState | null
  /** Events that the project's NATS consumer, and its webhook, have still to take; null: there is none. */
  waiting: { reader: number | null; webhook: number | null }
}

/** What the durable consumer of a project's NATS user may hold without an acknowledgement, and for how long. */
const READER = { ackWaitMs: 30_000, pendingMax: 1_000 }

export interface FeedAdministrationOptions {
  administration: Administration
  broker: Broker
  clock: Clock
  /** store.split */
  split: number
  settings: WebhookSettings
}

/** Methods throw CodedError, and BrokerError where the store is away. */
export class FeedAdministration {
  private readonly feeds: RecordTable<FeedRecord>
  private readonly states: FeedStates
  private readonly told: Log
  private readonly rules: UrlRules

  constructor(private readonly options: FeedAdministrationOptions) {
    const { broker, settings } = options
    this.feeds = openFeeds(broker)
    this.states = new FeedStates(broker)
    this.told = broker.log(OUTCOME_EVENTS_STREAM)
    this.rules = { allowHttp: settings.allowHttp, guard: new AddressGuard(settings.allowedNetworks) }
  }

  async show(actor: Actor, project: string): Promise<FeedView> {
    this.options.administration.look(actor, 'events.show', project)
    await getProject(this.options.administration.tenants, project)
    return this.view(project)
  }

  /** What ends from now on is told; harmless where events are on. */
  turnOn(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'events.on', project, {}, () => this.ensure(project))
  }

  /** With its webhook. What was told already stays in PUSH_EVENTS for its time; harmless where events are off. */
  turnOff(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'events.off', project, {}, async () => {
      if (await this.feeds.get(project, { authoritative: true })) await this.feeds.table.delete(project)
      await this.told.forgetConsumer(readerDurable(project))
      await this.forgetWebhook(project)
    })
  }

  /**
   * Another url or other kinds for the webhook there is, or a new one, whose secret is in the answer and in no later one.
   * Turns events on where they are off. `kinds` null: all.
   */
  async setWebhook(
    actor: Actor,
    project: string,
    wanted: { url: string; kinds: readonly string[] | null },
  ): Promise<FeedView & { secret: string | null }> {
    const { url: text, kinds: names } = wanted
    let made: string | null = null
    const details = { origin: URL.canParse(text) ? originOf(text) : undefined, kinds: names ?? 'all' }
    const view = await this.change(actor, 'webhook.set', project, details, async () => {
      const [url, kinds] = [checkWebhookUrl(text, this.rules), kindsOf(names)]
      await this.ensure(project)
      await this.told.prepare(consumerOf(project, this.options.settings))
      await this.update(project, (webhook, nowMs) => {
        made = webhook ? null : newWebhookSecret()
        const fresh = { secrets: [{ secret: made ?? '', createdAtMs: nowMs, endsAtMs: null }], createdAtMs: nowMs }
        const { secrets, createdAtMs } = webhook ?? fresh
        return { url, kinds, secrets, createdAtMs, attempt: (webhook?.attempt ?? 0) + 1, disabled: null }
      })
    })
    return { ...view, secret: made }
  }

  /** A new secret, in the answer and in no later one; the one before signs beside it for `webhooks.secretOverlapMs`. */
  async rotateSecret(actor: Actor, project: string): Promise<FeedView & { secret: string }> {
    const secret = newWebhookSecret()
    const view = await this.change(actor, 'webhook.rotate', project, {}, () =>
      this.updateWebhook(project, (webhook, nowMs) => {
        const endsAtMs = nowMs + this.options.settings.secretOverlapMs
        // Only the newest goes on: two are good at a time.
        const [newest] = goodSecrets(webhook.secrets, nowMs)
        const before = newest && endsAtMs > nowMs ? [{ ...newest, endsAtMs }] : []
        return { ...webhook, secrets: [{ secret, createdAtMs: nowMs, endsAtMs: null }, ...before] }
      }),
    )
    return { ...view, secret }
  }

  /** Ends a pause, or what a 410 led to: it is tried at once. */
  retryWebhook(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'webhook.retry', project, {}, () =>
      this.updateWebhook(project, (webhook) => ({ ...webhook, attempt: webhook.attempt + 1, disabled: null })),
    )
  }

  removeWebhook(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'webhook.remove', project, {}, async () => {
      await this.updateWebhook(project, () => null)
      await this.forgetWebhook(project)
    })
  }

  private async change(
    actor: Actor,
    action: 'events.on' | 'events.off' | `webhook.${'set' | 'rotate' | 'retry' | 'remove'}`,
    project: string,
    details: Record<string, unknown>,
    make: () => Promise<void>,
  ): Promise<FeedView> {
    const { administration } = this.options
    return administration.change(actor, action, project, details, async () => {
      await getProject(administration.tenants, project)
      await make()
      return this.view(project)
    })
  }

  private async view(project: string): Promise<FeedView> {
    const [feed, reader, webhook] = await Promise.all([
      this.feeds.get(project, { authoritative: true }),
      this.told.waiting(readerDurable(project)),
      this.told.waiting(consumerOf(project, this.options.settings).durable),
    ])
    const state = feed?.webhook ? await this.states.webhook(project, feed.webhook) : null
    return { project, feed: feed && this.current(feed), state, waiting: { reader, webhook } }
  }

  private current(feed: FeedRecord): FeedRecord {
    const { webhook } = feed
    const nowMs = this.options.clock.now()
    return webhook ? { ...feed, webhook: { ...webhook, secrets: goodSecrets(webhook.secrets, nowMs) } } : feed
  }

  private async ensure(project: string): Promise<void> {
    const { broker, split, clock } = this.options
    // First, so that it gets the first event.
    await this.told.prepare({
      ...{ durable: readerDurable(project), filter: outcomeEventsFilter(project), startsAt: 'new', ...READER },
    })
    const states = await Promise.all(Array.from({ length: split }, (_, i) => broker.log(eventsStream(i)).state()))
    const [since, nowMs] = [states.map(({ lastSequence }) => lastSequence), clock.now()]
    // False where there is one: it goes on as it is.
    await this.feeds.create({ v: 1, id: project, since, webhook: null, createdAtMs: nowMs, updatedAtMs: nowMs })
  }

  private async updateWebhook(project: string, change: (webhook: Webhook, nowMs: number) => Webhook | null) {
    await this.update(project, (webhook, nowMs) => {
      if (!webhook) throw new CodedError('not_found', `project ${project} has no webhook`)
      return change(webhook, nowMs)
    })
  }

  private async update(project: string, change: (webhook: Webhook | null, nowMs: number) => Webhook | null) {
    const nowMs = this.options.clock.now()
    const changed = await this.feeds.update(project, (feed) => ({
      ...{ ...feed, webhook: change(feed.webhook, nowMs), updatedAtMs: nowMs },
    }))
    if (!changed) throw new CodedError('not_found', `the events of project ${project} are off`)
  }

  private async forgetWebhook(project: string): Promise<void> {
    await this.told.forgetConsumer(consumerOf(project, this.options.settings).durable)
    await this.states.forgetWebhook(project)
  }
}

function kindsOf(names: readonly string[] | null): FinalKind[] | null {
  if (names === null) return null
  const kinds = FINAL_KINDS.filter((kind) => names.includes(kind))
  if (kinds.length === 0 || names.some((name) => !FINAL_KINDS.includes(name as FinalKind))) {
    throw new CodedError('invalid_request', `kinds must be some of ${FINAL_KINDS.join(', ')}`, { field: 'kinds' })
  }
  return kinds
}
