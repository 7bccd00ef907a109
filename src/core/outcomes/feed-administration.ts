/**
 * Turns the events of a project on and off, and sets its webhook, for `borealis admin` and the admin API. Cores learn of each
 * change through their watches.
 */
import Type from 'typebox'
import { CodedError } from '../../../protocol/errors.js'
import { eventsStream, OUTCOME_EVENTS_STREAM, outcomeEventsFilter, readerDurable } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker, Log } from '../../nats/broker.js'
import { FINAL_KINDS } from '../../store/events.js'
import {
  type FeedRecord,
  FeedStates,
  openFeeds,
  type Webhook,
  type WebhookState,
  webhookPlace,
} from '../../store/feeds.js'
import { type SecretsKeys, seal } from '../../store/sealed-secrets.js'
import type { RecordTable } from '../../store/tenants.js'
import { Closed, checkerOf, Text } from '../domain/schema.js'
import type { Administration } from '../tenants/administration.js'
import type { Actor } from '../tenants/auth/roles.js'
import { getProject } from '../tenants/projects.js'
import { AddressGuard } from './webhooks/addresses.js'
import { consumerOf } from './webhooks/endpoint.js'
import type { WebhookSettings } from './webhooks/settings.js'
import { goodSecrets, newWebhookSecret } from './webhooks/signature.js'
import { checkWebhookUrl, originOf, type UrlRules, WEBHOOK_URL_CHARACTERS_MAX } from './webhooks/url.js'

export interface FeedView {
  project: string
  /** Null: events are off. */
  feed: FeedRecord | null
  state: WebhookState | null
  /** Number of events that wait for the project's NATS consumer and for its webhook; null: the consumer does not exist. */
  waiting: { reader: number | null; webhook: number | null }
}

/** The bounds of the durable consumer of a project's NATS user: unacknowledged events, and the wait for each. */
const READER = { ackWaitMs: 30_000, pendingMax: 1_000 }

export const NewWebhook = Closed(
  {
    url: Text({
      maxLength: WEBHOOK_URL_CHARACTERS_MAX,
      format: 'uri',
      description: 'https, without user, password and fragment; at a public address, or one that the operator allows.',
    }),
    kinds: Type.Optional(
      Type.Array(Type.Enum([...FINAL_KINDS]), { minItems: 1, description: 'Only events of these kinds; absent: all.' }),
    ),
  },
  { $id: 'NewWebhook' },
)
const checkNewWebhook = checkerOf(NewWebhook, { whole: 'the webhook' })

export interface FeedAdministrationOptions {
  administration: Administration
  broker: Broker
  clock: Clock
  /** store.split */
  split: number
  settings: WebhookSettings
  /** Asked for when a secret is made. Throws where there is no keyring. */
  secrets: () => SecretsKeys
}

/** Methods reject with CodedError or BrokerError. */
export class FeedAdministration {
  private readonly feeds: RecordTable<FeedRecord>
  private readonly states: FeedStates
  private readonly published: Log
  private readonly rules: UrlRules

  constructor(private readonly options: FeedAdministrationOptions) {
    const { broker, settings } = options
    this.feeds = openFeeds(broker)
    this.states = new FeedStates(broker)
    this.published = broker.log(OUTCOME_EVENTS_STREAM)
    this.rules = { allowHttp: settings.allowHttp, guard: new AddressGuard(settings.allowedNetworks) }
  }

  async show(actor: Actor, project: string): Promise<FeedView> {
    this.options.administration.requireView(actor, 'events.show', project)
    await getProject(this.options.administration.tenants, project)
    return this.view(project)
  }

  /** Publishes outcomes from now on. Idempotent. */
  turnOn(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'events.on', project, {}, () => this.ensure(project))
  }

  /** Publishes no more outcomes, and removes the webhook. PUSH_EVENTS keeps published events until their age. Idempotent. */
  turnOff(actor: Actor, project: string): Promise<FeedView> {
    return this.change(actor, 'events.off', project, {}, async () => {
      if (await this.feeds.get(project, { authoritative: true })) await this.feeds.table.delete(project)
      await this.published.deleteConsumer(readerDurable(project))
      await this.forgetWebhook(project)
    })
  }

  /**
   * Creates the webhook, or changes its url and kinds. Turns the events on. Only the creation returns the secret.
   * @param wanted `kinds` null or absent: all kinds.
   */
  async setWebhook(
    actor: Actor,
    project: string,
    wanted: { url: string; kinds?: readonly string[] | null },
  ): Promise<FeedView & { secret: string | null }> {
    const { url: text, kinds: names } = checkNewWebhook({
      url: wanted.url,
      ...(wanted.kinds && { kinds: wanted.kinds }),
    })
    const kinds = names === undefined ? null : FINAL_KINDS.filter((kind) => names.includes(kind))
    let made: string | null = null
    const details = { origin: originOf(text), kinds: kinds ?? 'all' }
    const view = await this.change(actor, 'webhook.set', project, details, async () => {
      const url = checkWebhookUrl(text, this.rules)
      await this.ensure(project)
      await this.published.createConsumer(consumerOf(project, this.options.settings))
      await this.update(project, (webhook, nowMs) => {
        made = webhook ? null : newWebhookSecret()
        const fresh = {
          secrets: [{ secret: made === null ? '' : this.sealed(project, made), createdAtMs: nowMs, endsAtMs: null }],
          createdAtMs: nowMs,
        }
        const { secrets, createdAtMs } = webhook ?? fresh
        return { url, kinds, secrets, createdAtMs, attempt: (webhook?.attempt ?? 0) + 1, disabled: null }
      })
    })
    return { ...view, secret: made }
  }

  /** Only this call returns the new secret. The old secret signs as well for `webhooks.secretOverlapMs`. */
  async rotateSecret(actor: Actor, project: string): Promise<FeedView & { secret: string }> {
    const secret = newWebhookSecret()
    const view = await this.change(actor, 'webhook.rotate', project, {}, () =>
      this.updateWebhook(project, (webhook, nowMs) => {
        const endsAtMs = nowMs + this.options.settings.secretOverlapMs
        // At most two secrets sign: the new one, and the newest of the old ones.
        const [newest] = goodSecrets(webhook.secrets, nowMs)
        const before = newest && endsAtMs > nowMs ? [{ ...newest, endsAtMs }] : []
        const sealed = this.sealed(project, secret)
        return { ...webhook, secrets: [{ secret: sealed, createdAtMs: nowMs, endsAtMs: null }, ...before] }
      }),
    )
    return { ...view, secret }
  }

  /** Makes an attempt now, even if the webhook is paused or disabled. */
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
      this.published.backlog(readerDurable(project)),
      this.published.backlog(consumerOf(project, this.options.settings).durable),
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
    // The consumer is created before the feed, so that it gets the first event.
    await this.published.createConsumer({
      durable: readerDurable(project),
      filter: outcomeEventsFilter(project),
      startsAt: 'new',
      ...READER,
    })
    const states = await Promise.all(Array.from({ length: split }, (_, i) => broker.log(eventsStream(i)).state()))
    const [since, nowMs] = [states.map(({ lastSequence }) => lastSequence), clock.now()]
    // create() does not change an existing feed.
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
      ...feed,
      webhook: change(feed.webhook, nowMs),
      updatedAtMs: nowMs,
    }))
    if (!changed) throw new CodedError('not_found', `the events of project ${project} are off`)
  }

  private sealed(project: string, secret: string): string {
    return seal(this.options.secrets(), secret, webhookPlace(project))
  }

  private async forgetWebhook(project: string): Promise<void> {
    await this.published.deleteConsumer(consumerOf(project, this.options.settings).durable)
    await this.states.forgetWebhook(project)
  }
}
