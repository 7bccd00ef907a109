/**
 * The message broker as Borealis uses it: a bus, logs and tables. This folder implements it on NATS; no other folder
 * imports the NATS client.
 *
 * Two implementations exist: connect.ts on a real server, and the simulated one of test/sim. One suite (test/contract)
 * tests both. A callback owns the body that it receives and may keep it.
 *
 * Subjects and keys contain no white space and no control characters, and only filters contain wildcards. Every other
 * subject is refused with a RangeError: it is an error in our code, so a retry cannot help.
 */

/** Core NATS: at most once, and ordered for one publisher and one subscription. */
export interface Bus {
  publish(subject: string, body: Uint8Array, options?: PublishOptions): void
  /** Calls `handler` synchronously and in order. `handler` must not throw. */
  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { queue?: string }): Subscription
  /** Rejects with BrokerError `no_responders`, `timeout` or `disconnected`. */
  request(subject: string, body: Uint8Array, options: RequestOptions): Promise<Uint8Array>
}

export interface PublishOptions {
  /** Subject for the answer. If nobody subscribes to the published subject, the server answers here with `noResponders`. */
  reply?: string
  headers?: Record<string, string>
}

export interface RequestOptions {
  timeoutMs: number
  /**
   * The beginning of the reply subject, for a responder that may not answer to the inboxes of this process. Default: the
   * inbox.
   */
  answersUnder?: string
}

export interface BusMessage {
  subject: string
  body: Uint8Array
  /** Subject for the answer; empty if the sender wants none. */
  reply: string
  headers: Record<string, string> | null
  /** True if the server sent this message to say that nobody subscribes to the subject that was published to. */
  noResponders: boolean
}

export interface Subscription {
  unsubscribe(): void
}

/** One JetStream stream. */
export interface Log {
  readonly name: string
  /**
   * Resolves with the sequence of the new record once the server has stored it. Rejects with BrokerError:
   * `wrong_last_sequence` (`lastSequence` then holds the actual last sequence of the subject); `timeout` or
   * `disconnected` (the record may be stored or not: repeat with the same messageId, or read the subject); `full`;
   * `unavailable`.
   */
  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number>
  /** The last record of a subject. With `authoritative`, the leader of the stream answers, not a replica that may lag. */
  last(subject: string, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /**
   * The record at a sequence. With `authoritative`, here and in next(), null means that the leader has no such record. A
   * replica that lags holds the beginning of the stream: a record that it finds is valid, but a record that it does not
   * find may still exist.
   */
  at(sequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /** The first record at or after `fromSequence` whose subject matches. Slow on large streams. */
  next(filter: string, fromSequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /**
   * Resolves with false if there was no such record.
   *
   * Never delete the newest record of a subject while older ones remain. nats-server 2.9 then forgets the older ones
   * until the next append: `last` returns null even with `authoritative`, and compare-and-set expects 0; only `next`
   * still finds them. After a kill -9 of the server, a record that was deleted shortly before can exist again.
   */
  delete(sequence: number): Promise<boolean>
  /**
   * Deletes the records that match and stand before a sequence. Only for streams without durable consumers: a purge
   * makes nats-server 2.9 forget which records these still have to deliver. A tail that has passed the records goes on.
   */
  purge(filter: string, beforeSequence: number): Promise<void>
  state(): Promise<LogState>
  /** Takes records from a durable pull consumer. Calls `handler` synchronously; `handler` must not throw. */
  consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption>
  /** Creates a durable consumer for another process to take from. Changes nothing if the consumer exists. */
  createConsumer(options: ConsumeOptions): Promise<void>
  /** Deletes a durable consumer. Changes nothing if there is no such consumer. */
  deleteConsumer(durable: string): Promise<void>
  /** Number of records that a durable consumer has not acknowledged yet; null if there is no such consumer. */
  backlog(durable: string): Promise<number | null>
  /** Delivers every record from `fromSequence` on, in sequence order and without gaps, across reconnects. */
  tail(options: TailOptions, handler: (record: LogRecord) => void): Promise<Consumption>
}

export interface AppendOptions {
  /** Nats-Msg-Id. A repeat within the duplicate window of the stream is stored once and resolves with the first sequence. */
  messageId?: string
  /** Compare-and-set: the append succeeds only if this is the last sequence of the subject (0: the subject is empty). */
  expectedLastSubjectSequence?: number
  headers?: Record<string, string>
  /** May use the reserve of a full stream (server/headroom.ts): for an append after which more records are removed. */
  usesReserve?: boolean
}

export interface LogRecord {
  subject: string
  sequence: number
  body: Uint8Array
  /** When the server stored the record, in Unix milliseconds. */
  storedAtMs: number
  headers: Record<string, string> | null
}

export interface LogState {
  messages: number
  firstSequence: number
  lastSequence: number
  /** Creation time of the stream in milliseconds. A stream that was created again has another incarnation. */
  incarnation: number
  /** Size of all records, with what the server adds to each. */
  bytes: number
  /** Limits of the stream; 0: none. */
  bytesMax: number
  recordsMax: number
  /** Beyond this size, appends are refused with `full`. Infinity if the stream has no limit or removes its oldest records. */
  refusesAtBytes: number
}

export interface ConsumeOptions {
  /** Name of the durable consumer. */
  durable: string
  filter?: string
  /** Where a new durable consumer starts. Must not change for a consumer that exists. Default: `all`. */
  startsAt?: 'all' | 'new'
  ackWaitMs: number
  /** Most deliveries without an acknowledgement. */
  pendingMax: number
}

export interface Delivery extends LogRecord {
  /**
   * Greater than 1 for a redelivery. A count of 1 proves nothing: after a kill -9, nats-server 2.9 can forget recent
   * acknowledgements and counts, and deliver a finished record as a first delivery. Only a stored event proves that a
   * record is finished.
   */
  deliveryCount: number
  /** Sends the acknowledgement without waiting. If it is lost, the record is delivered again. */
  ack(): void
  /** Has the record delivered again after `delayMs`. */
  nack(delayMs: number): void
  /** Restarts the ack wait. */
  working(): void
}

export interface TailOptions {
  /** Required on a connection that may create no consumers. */
  filter?: string
  /** The first sequence to deliver. */
  fromSequence: number
}

export interface Consumption {
  stop(): Promise<void>
}

/** One KV bucket: the last value of each key, with a revision for compare-and-set. */
export interface Table {
  readonly name: string
  /** Null if the key is absent or deleted. */
  get(key: string, options?: { authoritative?: boolean }): Promise<TableEntry | null>
  /** Writes only if `expectedRevision` is the revision of the key (0: absent or deleted). Rejects as Log.append does. */
  put(key: string, value: Uint8Array, expectedRevision?: number): Promise<number>
  delete(key: string): Promise<void>
  /** All entries whose keys match. For small tables and administration. */
  entries(filter?: string): Promise<TableEntry[]>
  /**
   * Delivers the present entries and then each change, in order. Resolves when the present entries are delivered. After
   * a reconnect, the watch delivers everything again.
   */
  watch(filter: string, handler: (entry: TableEntry) => void): Promise<Consumption>
}

export interface TableEntry {
  key: string
  /** Empty after a delete, and `deleted` is then true. */
  value: Uint8Array
  revision: number
  deleted: boolean
  /** When the server stored the entry, in Unix milliseconds. */
  storedAtMs: number
}

export interface Broker {
  readonly bus: Bus
  log(name: string): Log
  table(name: string): Table
  /** True while there is a connection to the server. Readiness depends on it. */
  connected(): boolean
  /**
   * What the server has refused to the user of this process on the present connection, such as `publish to tx.a.0`. A
   * process that lacks a permission cannot do its work. Empty: nothing.
   */
  denied(): readonly string[]
  /** Resolves once the server has read everything that was published before, and its errors have arrived. */
  flush(): Promise<void>
  /**
   * Calls `handler` synchronously; `handler` must not throw. A disconnect loses all messages and answers in flight. A
   * component whose state depends on the writes of others (such as the sessions of a worker) has to check that state at
   * `reconnected`.
   */
  onStatus(handler: (status: BrokerStatus) => void): Subscription
  close(): Promise<void>
}

/** `closed`: the connection ended for good. `denied`: denied() has a new entry. */
export type BrokerStatus = 'disconnected' | 'reconnected' | 'closed' | 'denied'

export type BrokerErrorCode =
  | 'wrong_last_sequence'
  | 'timeout'
  | 'no_responders'
  | 'disconnected'
  | 'full'
  | 'unavailable'

export class BrokerError extends Error {
  constructor(
    readonly code: BrokerErrorCode,
    message: string,
    /** With `wrong_last_sequence`: the actual last sequence of the subject. */
    readonly lastSequence = 0,
    options?: ErrorOptions,
  ) {
    // A lost compare-and-set is an ordinary answer, thousands of times a second. A stack trace would cost more than all
    // the rest of it and help nobody.
    const isExpected = code === 'wrong_last_sequence'
    const { stackTraceLimit } = Error
    if (isExpected) Error.stackTraceLimit = 0
    super(message, options)
    if (isExpected) Error.stackTraceLimit = stackTraceLimit
    this.name = 'BrokerError'
  }
}

/** True if an append or put lost its compare-and-set: another writer was first. */
export function isConflict(error: unknown): error is BrokerError {
  return error instanceof BrokerError && error.code === 'wrong_last_sequence'
}
