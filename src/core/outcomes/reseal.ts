/**
 * Keeps the secrets of webhooks encrypted with the active key: what is in clear text, or encrypted with another key, is
 * rewritten when this starts, when the keyring changes and when a record changes.
 */
import type { Clock } from '../../clock.js'
import type { Broker } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import type { Stoppable } from '../../stop-stack.js'
import { type FeedRecord, openFeeds, webhookPlace } from '../../store/feeds.js'
import { isStale, type LiveSecretsKeys, open, type SecretsKeys, seal } from '../../store/sealed-secrets.js'
import type { FeedDirectory } from './feed-directory.js'

export interface ResealOptions {
  broker: Broker
  clock: Clock
  log: Logger
  feeds: FeedDirectory
  secrets: LiveSecretsKeys
  retryMs: number
}

/** The record with its secrets encrypted with the active key; null if there is nothing to do. */
export function resealed(keys: SecretsKeys, feed: FeedRecord): FeedRecord | null {
  const { webhook, id } = feed
  if (!webhook) return null
  let isChanged = false
  const secrets = webhook.secrets.map((one) => {
    const secret = isStale(keys, one.secret) ? open(keys, one.secret, webhookPlace(id)) : null
    // Nobody can read it without its key: it stays as it is.
    if (secret === null) return one
    isChanged = true
    return { ...one, secret: seal(keys, secret, webhookPlace(id)) }
  })
  return isChanged ? { ...feed, webhook: { ...webhook, secrets } } : null
}

export class SecretReseal implements Stoppable {
  private work: Promise<void> = Promise.resolve()
  private readonly unlisten: (() => void)[] = []
  private cancelRetry = () => {}
  private stopped = false

  constructor(private readonly options: ResealOptions) {}

  start(): void {
    const { feeds, secrets } = this.options
    this.unlisten.push(
      feeds.onChange(() => this.look()),
      secrets.onChange(() => this.look()),
    )
    this.look()
  }

  async stop(): Promise<void> {
    this.stopped = true
    for (const unlisten of this.unlisten) unlisten()
    this.cancelRetry()
    await this.work
  }

  private look(): void {
    this.cancelRetry()
    this.work = this.work.then(() => this.resealAll())
  }

  /** Never rejects: what could not be written is tried again. */
  private async resealAll(): Promise<void> {
    const { broker, clock, log, feeds, secrets, retryMs } = this.options
    const stale = [...feeds.all()].filter((feed) => resealed(secrets, feed) !== null)
    for (const { id } of stale) {
      if (this.stopped) return
      try {
        await openFeeds(broker).update(id, (feed) => resealed(secrets, feed) ?? feed)
        log.info(
          { project: id, key: secrets.active?.kid },
          'the secrets of a webhook are encrypted with the active key',
        )
      } catch (error) {
        log.warn({ error, project: id }, 'the secrets of a webhook could not be encrypted, and are tried again')
        this.cancelRetry = clock.after(retryMs, () => this.look())
      }
    }
  }
}
