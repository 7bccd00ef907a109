/**
 * The simulated nats-server. Its streams and durable consumers survive a restart; the connections and subscriptions of
 * clients do not. A message to a client passes through SimClient, which adds latency and the faults of the connection.
 */
import { type AppendOptions, BrokerError } from '../../src/nats/broker.js'
import { streamDefinitions } from '../../src/nats/server/streams.js'
import type { StoreSettings } from '../../src/nats/settings.js'
import type { SimClient } from './client.js'
import type { VirtualClock } from './clock.js'
import { SimConsumer } from './consumer.js'
import type { Faults } from './faults.js'
import { between, type Random } from './random.js'
import { SimStream } from './stream.js'
import { subjectMatches } from './subjects.js'

/** Bounded, because each request to an inbox has a subject of its own. */
const MATCHES_MAX = 1_000

export interface ServerSubscription {
  client: SimClient
  subject: string
  queue: string
  receive: (message: Routed) => void
}

export interface Routed {
  subject: string
  body: Uint8Array
  reply: string
  headers: Record<string, string> | null
  noResponders: boolean
}

/** Its method is called for each record that a stream stores. */
export interface Follower {
  stored(): void
}

export class SimServer {
  up = true
  /** Called for each publish, append and delete: for the trace of a run, and for tests that crash at a given step. */
  observe: ((action: string, subject: string, sequence: number) => void) | null = null
  readonly clients = new Set<SimClient>()
  readonly #streams = new Map<string, SimStream>()
  readonly #consumers = new Map<string, SimConsumer>()
  readonly #followers = new Map<SimStream, Set<Follower>>()
  readonly #subscriptions = new Set<ServerSubscription>()
  /** Caches the subscriptions that match a subject, until a subscription is added or removed. */
  readonly #matches = new Map<string, ServerSubscription[]>()
  /** The stream of the subjects that begin with these two tokens; null if there is none. */
  readonly #streamOfPrefix = new Map<string, SimStream | null>()
  readonly #connectionEndHandlers = new Map<SimClient, (() => void)[]>()
  #inboxes = 0

  constructor(
    readonly clock: VirtualClock,
    readonly random: Random,
    readonly faults: Faults,
    store: StoreSettings,
    keepsEver = true,
  ) {
    for (const definition of streamDefinitions(store)) {
      const stream = new SimStream(definition, clock.now(), () => faults.forgetsOlder, keepsEver)
      this.#streams.set(definition.name, stream)
      this.#followers.set(stream, new Set())
    }
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random() < probability
  }

  stream(name: string): SimStream {
    const stream = this.#streams.get(name)
    if (!stream) throw new BrokerError('unavailable', `${name}: stream not found`)
    return stream
  }

  get streams(): Iterable<SimStream> {
    return this.#streams.values()
  }

  append(stream: SimStream, subject: string, body: Uint8Array, options: AppendOptions): number {
    if (this.#streamOf(subject) !== stream) throw new BrokerError('unavailable', `${subject}: no stream serves it`)
    const before = stream.lastSequence
    const { sequence } = stream.append(subject, body, options, this.clock.now())
    if (stream.lastSequence > before) {
      this.observe?.(stream.name, subject, sequence)
      for (const follower of this.#followers.get(stream) ?? []) follower.stored()
    }
    return sequence
  }

  follow(stream: SimStream, follower: Follower): () => void {
    const followers = this.#followers.get(stream)
    followers?.add(follower)
    return () => void followers?.delete(follower)
  }

  consumer(stream: SimStream, durable: string): SimConsumer {
    const key = `${stream.name} ${durable}`
    let consumer = this.#consumers.get(key)
    if (!consumer) {
      consumer = new SimConsumer(this, stream)
      this.#consumers.set(key, consumer)
    }
    return consumer
  }

  knownConsumer(stream: SimStream, durable: string): SimConsumer | null {
    return this.#consumers.get(`${stream.name} ${durable}`) ?? null
  }

  forgetConsumer(stream: SimStream, durable: string): void {
    this.knownConsumer(stream, durable)?.end()
    this.#consumers.delete(`${stream.name} ${durable}`)
  }

  subscribe(subscription: ServerSubscription): void {
    this.#subscriptions.add(subscription)
    this.#matches.clear()
  }

  unsubscribe(subscription: ServerSubscription): void {
    this.#subscriptions.delete(subscription)
    this.#matches.clear()
  }

  /** A number for the inbox of a client: two processes of one name, one after the other, must not share an inbox. */
  nextInbox(): number {
    return this.#inboxes++
  }

  /** Handles a core NATS publish: routes it to subscribers, and stores it if a stream has its subject. */
  publish(from: SimClient, message: Routed): void {
    this.observe?.(`${from.name} publishes`, message.subject, 0)
    const served = this.#route(message)
    const stored = this.#store(message)
    if (!served && !stored && message.reply) {
      const { reply } = message
      const answer = { subject: reply, body: new Uint8Array(0), reply: '', headers: null, noResponders: true }
      for (const subscription of this.#matching(reply)) {
        // Only the publisher learns that there are no responders.
        if (subscription.client === from) subscription.receive(answer)
      }
    }
  }

  /** Stops the server and ends every connection. `kill`: a kill -9, which may undo the latest deletions. */
  down(kill: boolean): void {
    this.up = false
    for (const client of [...this.clients]) client.cutOff()
    for (const consumer of this.#consumers.values()) consumer.serverStopped()
    if (!kill) return
    for (const stream of this.#streams.values()) {
      stream.undoDeletes(this.random, this.faults.undoDelete, this.clock.now())
    }
  }

  start(): void {
    this.up = true
    for (const consumer of this.#consumers.values()) consumer.serverStarted()
  }

  /** Calls `handler` when this client's connection ends, for whatever reason. */
  onConnectionEnd(client: SimClient, handler: () => void): void {
    this.#connectionEndHandlers.set(client, [...(this.#connectionEndHandlers.get(client) ?? []), handler])
  }

  /** Ends the subscriptions and consumers of a client whose connection ended. */
  forget(client: SimClient): void {
    this.clients.delete(client)
    for (const handler of this.#connectionEndHandlers.get(client) ?? []) handler()
    this.#connectionEndHandlers.delete(client)
    this.#matches.clear()
    for (const subscription of this.#subscriptions) {
      if (subscription.client === client) this.#subscriptions.delete(subscription)
    }
  }

  #matching(subject: string): ServerSubscription[] {
    let known = this.#matches.get(subject)
    if (!known) {
      known = [...this.#subscriptions].filter((subscription) => subjectMatches(subscription.subject, subject))
      if (this.#matches.size >= MATCHES_MAX) this.#matches.clear()
      this.#matches.set(subject, known)
    }
    return known
  }

  #streamOf(subject: string): SimStream | null {
    const [family, part] = subject.split('.', 2)
    const prefix = `${family}.${part}`
    let found = this.#streamOfPrefix.get(prefix)
    if (found === undefined) {
      found = [...this.#streams.values()].find((stream) => stream.hasSubject(subject)) ?? null
      this.#streamOfPrefix.set(prefix, found)
    }
    return found
  }

  #route(message: Routed): boolean {
    const queues = new Map<string, ServerSubscription[]>()
    const receivers: ServerSubscription[] = []
    for (const subscription of this.#matching(message.subject)) {
      if (!subscription.queue) receivers.push(subscription)
      else queues.set(subscription.queue, [...(queues.get(subscription.queue) ?? []), subscription])
    }
    for (const members of queues.values()) {
      const chosen = members[between(this.random, [0, members.length - 1])]
      if (chosen) receivers.push(chosen)
    }
    for (const { receive } of receivers) {
      if (!this.chance(this.faults.dropCore)) receive({ ...message, body: message.body.slice() })
    }
    return receivers.length > 0
  }

  /** Stores a core publish to a subject of a stream, and acknowledges it to the reply subject. */
  #store({ subject, body, headers, reply }: Routed): boolean {
    const stream = this.#streamOf(subject)
    if (!stream) return false
    const { 'Nats-Msg-Id': messageId, ...own } = headers ?? {}
    const sequence = this.append(stream, subject, body, {
      ...(messageId !== undefined && { messageId }),
      ...(Object.keys(own).length > 0 && { headers: own }),
    })
    const answer = Buffer.from(JSON.stringify({ stream: stream.name, seq: sequence }))
    if (reply) this.#route({ subject: reply, body: answer, reply: '', headers: null, noResponders: false })
    return true
  }
}
