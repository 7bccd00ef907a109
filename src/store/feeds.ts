/**
 * Which projects want to be told what became of their messages (FEEDS), and how far that is (FEED_STATE). JSON, as other
 * records of tenants. A webhook's secrets stand in FEEDS as they are, since every POST is signed with them: only the
 * core and administration may read that table.
 */
import { Bucket } from '../../protocol/subjects.js'
import type { Broker, Table } from '../nats/broker.js'
import type { FinalKind } from './events.js'
import { RecordTable } from './tenants.js'

export interface WebhookSecret {
  /** `whsec_` and base64 of the key. */
  secret: string
  createdAtMs: number
  /** It signs until then; null: until it is replaced. */
  endsAtMs: number | null
}

export interface Webhook {
  url: string
  /** Null: all. */
  kinds: FinalKind[] | null
  /** Newest first; those of them that have not ended sign side by side. */
  secrets: WebhookSecret[]
  createdAtMs: number
  /** Raised by whoever wants it to be tried now. */
  attempt: number
  /** Null: it is in use. */
  disabled: { reason: string; atMs: number } | null
}

/** Under the id of the project. */
export interface FeedRecord {
  v: 1
  id: string
  /** Last sequences of EVENTS_0, EVENTS_1, ... when the feed was turned on: what ended later is told. */
  since: number[]
  webhook: Webhook | null
  createdAtMs: number
  updatedAtMs: number
}

/** How a webhook does, as whoever delivers to it saw it last. */
export interface WebhookState {
  v: 1
  /** Of the webhook that it is about: one that was removed may leave its state behind, written while it ended. */
  createdAtMs: number
  state: 'ok' | 'failing' | 'paused'
  lastSuccessAtMs: number | null
  lastFailureAtMs: number | null
  /** Of the last failure: `status 500`, `timeout`, ... */
  lastError: string | null
  /** Null: the last attempt went well. */
  failingSinceMs: number | null
  /** Events that were too old to be tried again, since the webhook was made. */
  givenUp: number
}

export const openFeeds = (broker: Broker) => new RecordTable<FeedRecord>(broker.table(Bucket.FEEDS), 'feed')

/** Methods reject with BrokerError where the store is away. */
export class FeedStates {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.FEED_STATE)
  }

  /** What of EVENTS_<index> was told; 0 where nothing was. */
  async position(index: number): Promise<number> {
    const state = await this.read<{ sequence: number }>(positionKey(index))
    return state?.sequence ?? 0
  }

  /** Not a compare-and-set: an older position only has something told twice, under the same id. */
  async writePosition(index: number, sequence: number): Promise<void> {
    await this.write(positionKey(index), { v: 1, sequence })
  }

  /** Null: of this webhook nothing is known yet. */
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
