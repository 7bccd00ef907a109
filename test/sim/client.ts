/**
 * The broker client of one simulated process, and the faults of that process: crash, freeze, partition, wrong clock.
 * Each message to or from the server has a latency of its own. When a connection ends, its messages under way are lost.
 */
import type { Clock } from '../../src/clock.js'
import {
  type Broker,
  BrokerError,
  type BrokerStatus,
  type Bus,
  type Log,
  type Subscription,
  type Table,
} from '../../src/nats/broker.js'
import { StatusListeners } from '../../src/nats/client/connection.js'
import { LogTable } from '../../src/nats/table.js'
import { SimBus } from './bus.js'
import { SimLog } from './log.js'
import { between } from './random.js'
import type { ServerSubscription, SimServer } from './server.js'

export const REQUEST_TIMEOUT_MS = 5_000
/** Above this number of lanes the idle ones are deleted. */
const LANES_MAX = 4_096

interface Pending {
  fail(error: BrokerError): void
}

export class SimClient implements Broker {
  readonly bus: Bus
  /** The clock of this process: it stops with the process, and is wrong by `skewMs`. */
  readonly clock: Clock
  skewMs = 0
  readonly #logs = new Map<string, SimLog>()
  readonly #statuses = new StatusListeners()
  readonly #subscriptions = new Set<ServerSubscription>()
  readonly #pending = new Set<Pending>()
  readonly #lastArrival = new Map<string, number>()
  /** Counts the connections of this process. A message of an older connection is lost. */
  #epoch = 0
  #connected = true
  #dead = false
  #cut = false
  #frozen = false
  /** The server ended the connection while this process was frozen and could not notice. */
  #lostWhileFrozen = false
  #heldByCut: (() => void)[] = []
  #heldByFreeze: (() => void)[] = []

  constructor(
    readonly name: string,
    readonly server: SimServer,
  ) {
    this.clock = {
      now: () => server.clock.now() + this.skewMs,
      steadyMs: () => server.clock.steadyMs(),
      after: (ms, fn) => this.#after(ms, fn),
    }
    this.#connected = server.up
    if (server.up) server.clients.add(this)
    else this.#reconnectLater()
    this.bus = new SimBus(this)
  }

  log(name: string): SimLog {
    const log = this.#logs.get(name) ?? new SimLog(this, name)
    this.#logs.set(name, log)
    return log
  }

  table(name: string): Table {
    const log: SimLog = this.log(`KV_${name}`)
    return new LogTable(name, {
      log: log satisfies Log,
      tail: (options, handler, hooks) => log.tail(options, handler, hooks),
      onStatus: (handler) => this.onStatus(handler),
    })
  }

  connected(): boolean {
    return this.#connected
  }

  /** The simulated server knows no permissions. */
  denied(): readonly string[] {
    return []
  }

  async flush(): Promise<void> {}

  onStatus(handler: (status: BrokerStatus) => void): Subscription {
    return this.#statuses.on(handler)
  }

  async close(): Promise<void> {
    if (this.#dead) return
    this.#statuses.emit('closed')
    this.#connected = false
    this.#failPending('closed')
    this.#end()
  }

  // ---- faults of the process ------------------------------------------------------------------

  /**
   * Ends the process with its timers, subscriptions and pending requests. `silently`: the whole machine is gone, so that
   * the server notices only after `silentMs`.
   */
  crash(silently = false): void {
    this.#dead = true
    this.#connected = false
    this.#heldByCut = []
    this.#heldByFreeze = []
    if (silently) this.server.clock.quietly(this.server.faults.silentMs, () => this.#end())
    else this.#end()
  }

  /** SIGSTOP: nothing runs. Messages that arrive and timers that fall due are held until thaw(). */
  freeze(): void {
    this.#frozen = true
    const epoch = this.#epoch
    this.server.clock.quietly(this.server.faults.silentMs, () => {
      if (!this.#frozen || epoch !== this.#epoch) return
      this.#lostWhileFrozen = true
      this.#leaveServer()
    })
  }

  thaw(): void {
    this.#frozen = false
    if (this.#lostWhileFrozen) this.#heldByFreeze.push(() => this.#disconnected())
    this.#lostWhileFrozen = false
    if (this.#heldByFreeze.length > 0) this.server.clock.after(0, () => this.#wake())
  }

  /** Holds all messages in both directions. After `silentMs` without heal() both sides end the connection. */
  partition(): void {
    this.#cut = true
    const epoch = this.#epoch
    this.server.clock.after(this.server.faults.silentMs, () => {
      if (this.#cut && epoch === this.#epoch) this.cutOff()
    })
  }

  heal(): void {
    this.#cut = false
    if (this.#heldByCut.length > 0) this.server.clock.after(0, () => this.#letThrough())
  }

  /** Ends the connection; both sides see it at once. The client reconnects. */
  cutOff(): void {
    this.#leaveServer()
    if (this.#frozen) this.#lostWhileFrozen = true
    else this.#disconnected()
  }

  // ---- the link -------------------------------------------------------------------------------

  /** Runs `fn` at the server after a latency, in the order of sending. It is lost if the connection ends meanwhile. */
  toServer(lane: string, fn: () => void): void {
    if (!this.#connected || this.#dead) return
    const epoch = this.#epoch
    const pass = () => {
      if (epoch === this.#epoch && this.server.up) fn()
    }
    this.server.clock.quietly(this.#delay('>', lane, 0), () => this.#arrive(pass))
  }

  /** Runs `fn` in this process after a latency, in the order in which the server sent. */
  toClient(lane: string, fn: () => void, extraMs = 0): void {
    const epoch = this.#epoch
    const pass = () => {
      if (epoch === this.#epoch) this.#whenAwake(fn)
    }
    this.server.clock.after(this.#delay('<', lane, extraMs), () => this.#arrive(pass))
  }

  /** Runs `work` at the server, and settles with its result or its BrokerError. Request and answer may be lost. */
  ask<T>(lane: string, work: () => T): Promise<T> {
    const { faults } = this.server
    return this.waitFor<T>(lane, REQUEST_TIMEOUT_MS, (resolve, reject) => {
      if (this.server.chance(faults.loseRequest)) return
      this.toServer(lane, () => {
        const answer = attempt(work, resolve, reject)
        if (!this.server.chance(faults.loseAnswer)) this.toClient('answers', answer)
      })
    })
  }

  /** A promise that `start` settles, or that a time-out or the end of the connection rejects. */
  waitFor<T>(
    request: string,
    timeoutMs: number,
    start: (resolve: (value: T) => void, reject: (error: BrokerError) => void) => void,
  ): Promise<T> {
    if (!this.#connected) return Promise.reject(new BrokerError('disconnected', `${request}: not connected`))
    return new Promise((resolve, reject) => {
      const fail = (error: BrokerError) => {
        if (this.#pending.delete(pending)) reject(error)
        cancel()
      }
      const pending = { fail }
      this.#pending.add(pending)
      const cancel = this.clock.after(timeoutMs, () =>
        fail(new BrokerError('timeout', `${request}: no answer in time`)),
      )
      start((value) => {
        if (this.#pending.delete(pending)) resolve(value)
        cancel()
      }, fail)
    })
  }

  /** Subscribes, and again after each reconnect. */
  subscribe(subject: string, queue: string, receive: ServerSubscription['receive']): Subscription {
    const lane = `sub ${subject}`
    const subscription: ServerSubscription = {
      client: this,
      subject,
      queue,
      receive: (message) =>
        this.toClient(lane, () => {
          if (this.#subscriptions.has(subscription)) receive(message)
        }),
    }
    this.#subscriptions.add(subscription)
    this.toServer(lane, () => this.server.subscribe(subscription))
    return {
      unsubscribe: () => {
        this.#subscriptions.delete(subscription)
        this.toServer(lane, () => this.server.unsubscribe(subscription))
      },
    }
  }

  #delay(direction: string, lane: string, extraMs: number): number {
    const now = this.server.clock.now()
    const { latencyMs, overtake } = this.server.faults
    const key = `${direction}${lane}`
    let arrival = now + between(this.server.random, latencyMs) + extraMs
    // Messages of one lane never overtake each other; messages of different lanes may, with probability `overtake`.
    arrival = Math.max(arrival, this.#lastArrival.get(key) ?? 0)
    const overtakes = extraMs > 0 || this.server.chance(overtake)
    if (!overtakes) {
      arrival = Math.max(arrival, this.#lastArrival.get(direction) ?? 0)
      this.#lastArrival.set(direction, arrival)
    }
    this.#lastArrival.set(key, arrival)
    if (this.#lastArrival.size > LANES_MAX) this.#forgetLanes(now)
    return arrival - now
  }

  /** Deletes the lanes without a message under way, because they no longer affect the order. */
  #forgetLanes(now: number): void {
    for (const [key, arrival] of this.#lastArrival) if (arrival < now) this.#lastArrival.delete(key)
  }

  #after(ms: number, fn: () => void): () => void {
    let cancelled = false
    const cancel = this.server.clock.after(ms, () =>
      this.#whenAwake(() => {
        if (!cancelled) fn()
      }),
    )
    return () => {
      cancelled = true
      cancel()
    }
  }

  /** New messages queue behind the held ones: a connection keeps its order even if it is healed and thawed at once. */
  #arrive(pass: () => void): void {
    if (this.#cut || this.#heldByCut.length > 0) this.#heldByCut.push(pass)
    else pass()
  }

  #letThrough(): void {
    if (this.#cut) return
    this.#heldByCut.shift()?.()
    if (this.#heldByCut.length > 0) this.server.clock.after(0, () => this.#letThrough())
  }

  #whenAwake(fn: () => void): void {
    if (this.#dead) return
    if (this.#frozen || this.#heldByFreeze.length > 0) this.#heldByFreeze.push(fn)
    else fn()
  }

  #wake(): void {
    if (this.#dead || this.#frozen) return
    this.#heldByFreeze.shift()?.()
    if (this.#heldByFreeze.length > 0) this.server.clock.after(0, () => this.#wake())
  }

  #leaveServer(): void {
    this.#epoch++
    this.#heldByCut = []
    this.#lastArrival.clear()
    this.server.forget(this)
  }

  #disconnected(): void {
    if (!this.#connected) return
    this.#connected = false
    this.#failPending('the connection was lost before an answer came')
    this.#statuses.emit('disconnected')
    this.#reconnectLater()
  }

  #reconnectLater(): void {
    this.#after(between(this.server.random, this.server.faults.reconnectMs), () => {
      if (!this.server.up || this.#cut) {
        this.#reconnectLater()
        return
      }
      this.#connected = true
      this.server.clients.add(this)
      for (const subscription of this.#subscriptions) this.server.subscribe(subscription)
      this.#statuses.emit('reconnected')
    })
  }

  #failPending(reason: string): void {
    for (const { fail } of [...this.#pending]) fail(new BrokerError('disconnected', reason))
  }

  #end(): void {
    this.#dead = true
    this.#leaveServer()
  }
}

function attempt<T>(work: () => T, resolve: (value: T) => void, reject: (error: BrokerError) => void): () => void {
  try {
    const value = work()
    return () => resolve(value)
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    return () => reject(error)
  }
}
