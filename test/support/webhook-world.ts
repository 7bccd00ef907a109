/** The webhooks of a core on virtual time, with receivers that answer as the test sets them. */
import { OUTCOME_EVENTS_STREAM, outcomeEventSubject } from '../../protocol/subjects.js'
import { CoreMetrics } from '../../src/core/metrics.js'
import { FeedAdministration } from '../../src/core/outcomes/feed-administration.js'
import { FeedDirectory } from '../../src/core/outcomes/feed-directory.js'
import { AddressGuard } from '../../src/core/outcomes/webhooks/addresses.js'
import type { Post, PostOutcome } from '../../src/core/outcomes/webhooks/post.js'
import type { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'
import { Webhooks } from '../../src/core/outcomes/webhooks/webhooks.js'
import { Administration } from '../../src/core/tenants/administration.js'
import type { Actor } from '../../src/core/tenants/auth/roles.js'
import { Keyring } from '../../src/keyring.js'
import { silentLogger } from '../../src/observe/log.js'
import { FeedStates } from '../../src/store/feeds.js'
import { SimBroker } from '../sim/broker.js'
import type { SimClient } from '../sim/client.js'
import { quickWebhooks } from './webhooks.js'

export const root: Actor = { name: 'cli:test', role: 'operator', projects: '*' }
export const PROJECT = 'acme'
export const HOOK_URL = 'http://127.0.0.1/hook'
export const SECOND_MS = 1_000
export const ok: PostOutcome = { answered: true, status: 204, retryAfterMs: null }
export const status = (status: number, retryAfterMs: number | null = null): PostOutcome => ({
  answered: true,
  status,
  retryAfterMs,
})

export interface Received extends Post {
  atMs: number
  ids: string[]
}

export class WebhookWorld {
  readonly sim = new SimBroker({ store: { split: 1 } })
  readonly observer = this.sim.brokerFor('observer')
  readonly metrics = new CoreMetrics()
  readonly settings: WebhookSettings
  readonly feeds: FeedAdministration
  readonly administration = new Administration(this.observer, this.sim.clock)
  readonly received: Received[] = []
  readonly keyring = Keyring.generate(0)
  answer: (post: Received) => PostOutcome | Promise<PostOutcome> = () => ok
  private starts = 0

  constructor(settings: Partial<WebhookSettings> = {}) {
    this.settings = { ...quickWebhooks, ...settings }
    const { administration, observer: broker } = this
    this.feeds = new FeedAdministration({
      ...{ administration, broker, clock: this.sim.clock, split: 1, settings: this.settings },
      secrets: () => this.keyring.secretsKeys,
    })
  }

  advanceUntil<T>(promise: Promise<T>): Promise<T> {
    return this.sim.clock.advanceUntil(promise)
  }

  /** Creates a project with a webhook. Resolves with the secret of the webhook. */
  async project(id = PROJECT, kinds: string[] | null = null): Promise<string> {
    // Without a key: a thread makes keys, in real time.
    const nowMs = this.sim.clock.now()
    const record = { v: 1 as const, id, name: id, isActive: true, createdAtMs: nowMs, updatedAtMs: nowMs }
    const serviceAccount = { clientId: `client.${id}`, keys: [] }
    await this.advanceUntil(this.administration.tenants.projects.create({ ...record, serviceAccount }))
    return (await this.advanceUntil(this.feeds.setWebhook(root, id, { url: `${HOOK_URL}/${id}`, kinds }))).secret ?? ''
  }

  async start(): Promise<{ process: SimClient; feeds: FeedDirectory; stop: () => Promise<void> }> {
    const process = this.sim.brokerFor(`core-${++this.starts}`)
    const { clock } = process
    const feeds = await this.advanceUntil(new FeedDirectory().start(process, silentLogger))
    const webhooks = new Webhooks({
      ...{ broker: process, clock, random: this.sim.random, log: silentLogger, metrics: this.metrics },
      ...{ settings: this.settings, feeds, states: new FeedStates(process), retryMs: 50, drainMs: 500 },
      secrets: this.keyring.secretsKeys,
      guard: new AddressGuard(''),
      poster: {
        post: async (post) => {
          const body = JSON.parse(Buffer.from(post.body).toString()) as { events: { id: string }[] }
          const received = { ...post, atMs: this.sim.clock.now(), ids: body.events.map(({ id }) => id) }
          this.received.push(received)
          return this.answer(received)
        },
        close: () => {},
      },
    })
    webhooks.start()
    return { process, feeds, stop: () => this.advanceUntil(webhooks.stop()) }
  }

  async publish(id: string, project = PROJECT, kind = 'delivered'): Promise<void> {
    const body = Buffer.from(JSON.stringify({ v: 1, id, kind, projectId: project }))
    await this.advanceUntil(this.observer.log(OUTCOME_EVENTS_STREAM).append(outcomeEventSubject(project, kind), body))
  }

  advance(ms: number): Promise<void> {
    return this.sim.clock.advance(ms)
  }

  /** The feed of a project as the admin API shows it. */
  view(project = PROJECT) {
    return this.advanceUntil(this.feeds.show(root, project))
  }

  get receivedIds(): string[] {
    return this.received.flatMap(({ ids }) => ids)
  }
}
