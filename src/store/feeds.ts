/**
 * Feeds: which projects receive events about their messages (table FEEDS), and the progress of delivery (table
 * FEED_STATE). The records are JSON, as other records of tenants. FEEDS holds the secrets of webhooks encrypted with a key
 * of the keyring (sealed-secrets.ts): every POST is signed with them, so a core has to be able to read them.
 */
import { Bucket } from '../../protocol/subjects.js'
import type { Broker, Table } from '../nats/broker.js'
import type { FinalKind } from './events.js'
import { RecordTable } from './tenants.js'

export interface WebhookSecret {
  /** `whsec_` and the key in base64, sealed for `webhookPlace()`. In clear text if the keyring has no key for secrets. */
  secret: string
  createdAtMs: number
  /** When it stops signing; null until it is replaced. */
  endsAtMs: number | null
}

export interface Webhook {
  url: string
  /** Null: all kinds. */
  kinds: FinalKind[] | null
  /** Newest first. All secrets that have not ended sign each POST. */
  secrets: WebhookSecret[]
  createdAtMs: number
  /** A higher number asks for an attempt now. */
  attempt: number
  /** Null while the webhook is enabled. */
  disabled: { reason: string; atMs: number } | null
}

/** Stored under the id of the project. */
export interface FeedRecord {
  v: 1
  id: string
  /** Last sequences of EVENTS_0, EVENTS_1, ... when the feed was turned on. The feed reports ends after these. */
  since: number[]
  webhook: Webhook | null
  createdAtMs: number
  updatedAtMs: number
}

/** The state of a webhook, written by the process that delivers to it. */
export interface WebhookState {
  v: 1
  /** `createdAtMs` of the webhook. A removed webhook may leave a state behind that was written while it ended. */
  createdAtMs: number
  state: 'ok' | 'failing' | 'paused'
  lastSuccessAtMs: number | null
  lastFailureAtMs: number | null
  /** Of the last failure, such as `status 500` or `timeout`. */
  lastError: string | null
  /** Null if the last attempt succeeded. */
  failingSinceMs: number | null
  /** Number of events that became too old, since the webhook was created. */
  givenUp: number
}

/** Where the secrets of the webhook of a project are at home. */
export const webhookPlace = (project: string) => `webhook:${project}`

export const openFeeds = (broker: Broker) => new RecordTable<FeedRecord>(broker.table(Bucket.FEEDS), 'feed')

/** Methods reject with BrokerError if the store is unavailable. */
export class FeedStates {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.FEED_STATE)
  }

  /** Sequence of EVENTS_<index> up to which events are published; 0 before the first. */
  async position(index: number): Promise<number> {
    const state = await this.read<{ sequence: number }>(positionKey(index))
    return state?.sequence ?? 0
  }

  /** Without compare-and-set: an older position only causes a second publication under the same id. */
  async writePosition(index: number, sequence: number): Promise<void> {
    await this.write(positionKey(index), { v: 1, sequence })
  }

  /** Null if nothing is known yet about this webhook. */
  async webhook(project: string, { createdAtMs }: Webhook): Promise<WebhookState | null> {
    const state = await this.read<WebhookState>(webhookKey(project))
    return state?.createdAtMs === createdAtMs ? state : null
  }

  async writeWebhook(project: string, state: WebhookState): Promise<void> {
    await this.write(webhookKey(project), state)
  }

  async forgetWebhook(project: string): Promise<void> {
    await this.table.delete(webhookKey(project))
  }

  private async read<T>(key: string): Promise<T | null> {
    const entry = await this.table.get(key, { authoritative: true })
    return entry && (JSON.parse(Buffer.from(entry.value).toString('utf8')) as T)
  }

  private async write(key: string, value: object): Promise<void> {
    await this.table.put(key, Buffer.from(JSON.stringify(value)))
  }
}

const positionKey = (index: number) => `position.${index}`
const webhookKey = (project: string) => `webhook.${project}`
