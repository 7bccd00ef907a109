/**
 * What Borealis asks of NATS, as interfaces: a bus, logs and tables.
 *
 * Two implementations exist: `nats.ts` over a real server, and the simulated one of test/sim. One contract suite
 * (test/contract) runs against both. Bodies handed to a callback belong to the callback.
 *
 * Subjects and keys have no white space and no control characters, and only filters have wildcards; what has, is refused
 * with a RangeError: it is a fault of ours, which no repeat mends.
 */

/** Core NATS: at most once, ordered for one publisher and one subscription. */
export interface Bus {
  publish(subject: string, body: Uint8Array, options?: PublishOptions): void
  /** `handler` is called synchronously, in order; it must not throw. */
  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { queue?: string }): Subscription
  /** Rejects with BrokerError `no_responders`, `timeout` or `disconnected`. */
  request(subject: string, body: Uint8Array, options: { timeoutMs: number }): Promise<Uint8Array>
}

export interface PublishOptions {
  /** Where an answer goes. Where nobody serves the subject, the server answers here with `noResponders`. */
  reply?: string
  headers?: Record<string, string>
}

export interface BusMessage {
  subject: string
  body: Uint8Array
  /** Subject to answer to; empty: none wanted. */
  reply: string
  headers: Record<string, string> | null
  /** The server's word that nobody serves the subject published to with this reply. */
  noResponders: boolean
}

export interface Subscription {
  unsubscribe(): void
}

/** One JetStream stream. */
export interface Log {
  readonly name: string
  /**
   * Appends and resolves with the sequence once the server has stored it. Rejects with BrokerError:
   * `wrong_last_sequence` (then `lastSequence` has the subject's true one), `timeout` or `disconnected` (unknown
   * whether it was stored: repeat with the same messageId, or look), `full`, `unavailable`.
   */
  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number>
  /** Last record of a subject. `authoritative`: from the stream's leader, never from a replica that may lag. */
  last(subject: string, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /**
   * `authoritative`, here and in next(): it is absent only if the leader says so. A replica that lags has the beginning
   * of the stream, so what it finds is right, and only what it does not find may be there all the same.
   */
  at(sequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /** First record at or after `fromSequence` whose subject matches. Slow on large streams. */
  next(filter: string, fromSequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null>
  /**
   * False where there was no such record.
   *
   * nats-server 2.9 forgets: when a subject's newest record is deleted while older ones remain, `last` says null (the
   * authoritative one too) and compare-and-set counts from 0, until the next append; only `next` still finds them. So
   * never delete the newest of a subject first. And a kill -9 of the server can bring back what was just deleted.
   */
  delete(sequence: number): Promise<boolean>
  /**
   * What matches and stands before a sequence. Only for a stream without consumers: nats-server 2.9 then forgets which records
   * they wait for.
   */
  purge(filter: string, beforeSequence: number): Promise<void>
  state(): Promise<LogState>
  /** A durable pull consumer with explicit acknowledgement. `handler` is called synchronously and must not throw. */
  consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption>
  /** Makes a durable consumer without taking from it, for who will; harmless where it is there. */
  prepare(options: ConsumeOptions): Promise<void>
  /** Ends a durable consumer for good; harmless where it is not there. */
  forgetConsumer(durable: string): Promise<void>
  /** Records that a durable consumer has still to get or to acknowledge; null where there is no such consumer. */
  waiting(durable: string): Promise<number | null>
  /** An ordered tail: every record from `fromSequence` on, in sequence order, without gaps, across reconnects. */
  tail(options: TailOptions, handler: (record: LogRecord) => void): Promise<Consumption>
}

export interface AppendOptions {
  /** Nats-Msg-Id: a repeat inside the stream's duplicate window is stored once (and resolves with the first sequence). */
  messageId?: string
  /** Compare-and-set: only if the subject's last sequence is this one (0: only if the subject is empty). */
  expectedLastSubjectSequence?: number
  headers?: Record<string, string>
}

export interface LogRecord {
  subject: string
  sequence: number
  body: Uint8Array
  /** When the server stored it, Unix milliseconds. */
  storedAtMs: number
  headers: Record<string, string> | null
}

export interface LogState {
  messages: number
  firstSequence: number
  lastSequence: number
  /** Changes when the stream was made anew: creation time, as a 53-bit number of milliseconds. */
  incarnation: number
}

export interface ConsumeOptions {
  /** Name of the durable consumer. */
  durable: string
  filter?: string
  /** Where a durable begins that is made by this; for one that is there it has to be as it was. Default: `all`. */
  startsAt?: 'all' | 'new'
  ackWaitMs: number
  /** Most deliveries without acknowledgement. */
  pendingMax: number
}

export interface Delivery extends LogRecord {
  /**
   * Greater than 1: redelivered. 1 says little: after a kill -9 nats-server 2.9 can forget acknowledgements and counts of
   * its last moments, and deliver what was done with as if it were new. Only what was stored (an event) tells.
   */
  deliveryCount: number
  /** Fire and forget: where it is lost, the record is delivered again. */
  ack(): void
  /** Deliver again, after `delayMs`. */
  nak(delayMs: number): void
  /** Restarts the ack wait. */
  working(): void
}

export interface TailOptions {
  filter?: string
  /** First sequence wanted. */
  fromSequence: number
}

export interface Consumption {
  stop(): Promise<void>
}

/** One KV bucket: the last value of each key, with a revision to compare-and-set on. */
export interface Table {
  readonly name: string
  /** Null where the key is absent or was deleted. */
  get(key: string, options?: { authoritative?: boolean }): Promise<TableEntry | null>
  /** Writes only if the key's revision is `expectedRevision` (0: only if absent or deleted). Rejects as Log.append does. */
  put(key: string, value: Uint8Array, expectedRevision?: number): Promise<number>
  delete(key: string): Promise<void>
  /** All keys that match; for small tables and administration. */
  entries(filter?: string): Promise<TableEntry[]>
  /**
   * First the present entries, then each change, in order. After a reconnect everything is delivered again; the
   * resolved promise means that the present entries were delivered.
   */
  watch(filter: string, handler: (entry: TableEntry) => void): Promise<Consumption>
}

export interface TableEntry {
  key: string
  /** Empty and `deleted` after a delete. */
  value: Uint8Array
  revision: number
  deleted: boolean
}

export interface Broker {
  readonly bus: Bus
  log(name: string): Log
  table(name: string): Table
  /** True while there is a connection to the server, for readiness. */
  connected(): boolean
  /**
   * What was in flight at a disconnect is lost, and answers with it: whoever keeps state that depends on what others
   * wrote (the worker its sessions) audits it at `reconnected`. Called synchronously; must not throw.
   */
  onStatus(handler: (status: BrokerStatus) => void): Subscription
  close(): Promise<void>
}

/** `closed`: by close(), for good. */
export type BrokerStatus = 'disconnected' | 'reconnected' | 'closed'

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
    /** With wrong_last_sequence: the subject's true last sequence. */
    readonly lastSequence = 0,
    options?: ErrorOptions,
  ) {
    // An answer like any other, given thousands of times a second: where it was made says nothing, and costs more than it.
    const isExpected = code === 'wrong_last_sequence'
    const { stackTraceLimit } = Error
    if (isExpected) Error.stackTraceLimit = 0
    super(message, options)
    if (isExpected) Error.stackTraceLimit = stackTraceLimit
    this.name = 'BrokerError'
  }
}
