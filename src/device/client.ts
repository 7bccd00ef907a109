/**
 * A device: `new BorealisClient(...)`, listen, `connect()`. It comes back by itself until it is closed or refused for good.
 *
 * Handlers of `notification` may return a promise: the next notification waits for it, and only after it this one is done.
 * Nothing is handed over while nobody listens. Errors without a listener are not thrown: `closed` with
 * `reconnectInMs: null` says that the device will not come back.
 */
import { EventEmitter } from 'node:events'
import type { ClientInfo, Cursor, GapReason } from '../../protocol/frame-types.js'
import { type Clock, systemClock } from '../clock.js'
import type { Dial } from './connection/dial.js'
import { ConnectionDriver } from './connection/driver.js'
import type { ConnectionState } from './connection/ports.js'
import { wsDial } from './connection/ws-dial.js'
import { DeviceError } from './errors.js'
import type { ConnectionEvent } from './events.js'
import { Handover, type HandoverTarget } from './handover.js'
import { hasReceiver, type Notification, readNotification } from './notification.js'
import { type Renew, Renewal } from './renewal.js'
import type { Wish } from './requests/requests.js'
import { type DeviceSettings, deviceSettings } from './settings.js'
import type { Registration, StoredNotification } from './state/state.js'
import type { StateStore } from './state/state-store.js'

export interface ClientEvents {
  /** Connected, pushes flow. `resumed`: with a ticket instead of the token. */
  ready: [{ connection: number; serverTimeMs: number; subscriptions: number; resumed: boolean }]
  /** The server confirmed a registration; its id may be another than before. */
  registration: [Registration]
  notification: [Notification]
  /** It came, but too late to be shown. */
  expired: [Notification]
  /** Messages that will not come; count 0: unknown how many. */
  gap: [{ count: number; reason: GapReason }]
  /** Every group message up to here was received. */
  caughtUp: [Cursor | null]
  error: [DeviceError]
  /** Null: it does not come back by itself. */
  closed: [{ code: number; name: string; reconnectInMs: number | null }]
  /** The device has another token; the older one ends. */
  renewed: [{ expiresAtMs: number }]
}

export interface ClientOptions {
  /** Opened, with an identity in its state. */
  store: StateStore
  /** Where the transport listens; without it as the enrolment said. */
  url?: string
  settings?: Partial<DeviceSettings>
  client?: Partial<ClientInfo>
  clock?: Clock
  /** Chance in [0, 1), for jitter: Math.random. */
  random: () => number
  dial?: Dial
  /** How a token is renewed; default: over HTTP, at the address where the device enrolled. */
  renew?: Renew
  /** PEM of certificates that are trusted besides those that Node knows: for a service with an authority of its own. */
  ca?: string
}

export interface RegisterOptions {
  /** JWT signed by the project's service account: who uses this device. */
  userToken?: string
}

/** Which registration a topic or an end belongs to; where there is only one it need not be named. */
export interface RegistrationName {
  application?: string
  user?: string
}

interface Caller {
  resolve(registration: Registration | null): void
  reject(error: DeviceError): void
}

export class BorealisClient extends EventEmitter<ClientEvents> {
  private readonly driver: ConnectionDriver
  private readonly handover: Handover
  private readonly renewal: Renewal
  private readonly store: StateStore
  private readonly settings: DeviceSettings
  private readonly clock: Clock
  private readonly callers = new Map<number, Caller>()
  private lastCaller = 0
  private connecting = false
  private closing: Promise<void> | null = null

  constructor(options: ClientOptions) {
    super()
    this.store = options.store
    this.settings = deviceSettings(options.settings)
    this.clock = options.clock ?? systemClock
    // What is held stands in the inbox: it must never fill it, or the answer that it waits for would not be read.
    const heldMax = Math.min(this.settings.heldMax, Math.floor(this.settings.inboxMax / 2))
    const target: HandoverTarget = {
      isReady: () => this.listenerCount('notification') > 0,
      isEarly: (notification) => this.driver.isAsking && !hasReceiver(notification, this.store.state),
      handle: (notification, possibleDuplicate) => this.handOver(notification, possibleDuplicate),
      done: (id) => this.driver.run((machine, now) => machine.done(now, id)),
    }
    this.handover = new Handover(target, heldMax)
    const dial = options.dial ?? wsDial(this.settings.webSocketBytesMax, this.clock, options.ca)
    this.driver = new ConnectionDriver(
      { clock: this.clock, dial, store: this.store },
      {
        url: options.url ?? this.store.state.identity?.url ?? '',
        client: { name: 'borealis', version: '', platform: process.platform, ...options.client },
        settings: this.settings,
        random: options.random,
        renews: this.store.state.identity?.core !== undefined,
      },
      (event) => this.onConnectionEvent(event),
    )
    this.renewal = new Renewal(
      {
        ...{ clock: this.clock, random: options.random, settings: this.settings },
        identity: () => this.store.state.identity,
        clockOffsetMs: () => this.driver.clockOffsetMs,
        ...(options.renew ? { renew: options.renew } : {}),
      },
      {
        drawn: (identity) => this.driver.run((machine) => machine.keep(identity)),
        renewed: (identity) => {
          this.driver.run((machine, now) => machine.renewed(now, identity))
          this.tell('renewed', { expiresAtMs: identity.expiresAtMs })
        },
        refused: (error, isAsked) => {
          const { serverCode } = error
          const fatal = new DeviceError('renew_refused', serverCode ?? '', {
            serverCode: serverCode ?? '',
            fatal: true,
          })
          if (isAsked) this.driver.run((machine) => machine.renewalRefused(fatal))
          else this.report(error)
        },
        failed: (error) => this.report(error),
      },
    )
    // Not one of our events, so not of our types.
    ;(this as EventEmitter).on('newListener', (name: string | symbol) => {
      // Once the listener is in place.
      if (name === 'notification') Promise.resolve().then(() => this.handover.pump())
    })
  }

  get state(): ConnectionState {
    return this.driver.state
  }

  get deviceId(): string | null {
    return this.store.state.identity?.deviceId ?? null
  }

  get registrations(): readonly Registration[] {
    return [...this.store.state.registrations.values()]
  }

  /** Starts, and hands over what an earlier run left in the inbox. Without effect the second time. */
  connect(): void {
    if (this.connecting || this.closing) return
    this.connecting = true
    const left = [...this.store.state.inbox.values()]
    this.driver.run((machine, now) => machine.start(now))
    for (const notification of left) this.handover.add(notification, true)
  }

  /** Resolves when the server has confirmed it, however many connections that takes; rejects with DeviceError. */
  async register(application: string, { userToken = '' }: RegisterOptions = {}): Promise<Registration> {
    const wish: Wish = { kind: 'register', application, user: userOf(userToken), userToken }
    const registration = await this.ask(wish)
    if (!registration) throw new DeviceError('no_registration', application)
    return registration
  }

  async unregister(name: RegistrationName = {}): Promise<void> {
    await this.ask({ kind: 'unregister', ...this.named(name) })
  }

  async subscribe(topic: string, name: RegistrationName = {}): Promise<void> {
    await this.ask({ kind: 'subscribe', topic, ...this.named(name) })
  }

  async unsubscribe(topic: string, name: RegistrationName = {}): Promise<void> {
    await this.ask({ kind: 'unsubscribe', topic, ...this.named(name) })
  }

  /** Says BYE, lets the handler at work finish (for `closeGraceMs`), and lets go of the state. */
  close(): Promise<void> {
    this.closing ??= this.shutDown()
    return this.closing
  }

  private async shutDown(): Promise<void> {
    this.renewal.stop()
    this.driver.run((machine, now) => machine.stop(now))
    this.driver.dispose()
    await this.handlerFinished()
    // What was marked done last is flushed at the end of its turn.
    await Promise.resolve()
    this.driver.run((machine) => machine.flush())
    await this.store.close()
    this.driver.dispose()
  }

  private handlerFinished(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(this.settings.closeGraceMs, resolve)
      this.handover.stop().then(() => {
        cancel()
        resolve()
      })
    })
  }

  private ask(wish: Wish): Promise<Registration | null> {
    return new Promise((resolve, reject) => {
      const caller = ++this.lastCaller
      this.callers.set(caller, { resolve, reject })
      if (this.driver.run((machine, now) => machine.request(now, wish, caller))) return
      this.callers.delete(caller)
      reject(new DeviceError(this.driver.state === 'stopped' ? 'stopped' : 'too_many_requests'))
    })
  }

  private named({ application, user = '' }: RegistrationName): { application: string; user: string } {
    if (application !== undefined) return { application, user }
    const [only, ...others] = this.registrations
    if (!only || others.length > 0) throw new DeviceError('no_registration', only ? 'name one of several' : '')
    return { application: only.application, user: only.user }
  }

  private onConnectionEvent(event: ConnectionEvent): void {
    switch (event.kind) {
      case 'ready': {
        const { kind, ...details } = event
        this.tell(kind, details)
        this.renewal.start()
        return
      }
      case 'notification':
        this.handover.add(event.notification, false)
        return
      case 'gap':
        this.tell('gap', { count: event.count, reason: event.reason })
        return
      case 'caughtUp':
        this.tell('caughtUp', event.cursor)
        return
      case 'registered':
        this.tell('registration', event.registration)
        return
      case 'asked':
        this.handover.release()
        return
      case 'answered':
        for (const token of event.callers) this.answer(token, event.registration, event.error)
        return
      case 'renew':
        this.renewal.ask()
        return
      case 'error':
        this.report(event.error)
        return
      case 'closed': {
        const { code, name, reconnectAtMs } = event
        const reconnectInMs = reconnectAtMs === null ? null : Math.max(reconnectAtMs - this.clock.now(), 0)
        if (reconnectAtMs === null) this.renewal.stop()
        this.tell('closed', { code, name, reconnectInMs })
      }
    }
  }

  private answer(token: number, registration: Registration | null, error: DeviceError | null): void {
    const caller = this.callers.get(token)
    this.callers.delete(token)
    if (error) caller?.reject(error)
    else caller?.resolve(registration)
  }

  private handOver(stored: StoredNotification, possibleDuplicate: boolean): Promise<void> | undefined {
    const readable = readNotification(stored, possibleDuplicate, this.store.state, this.settings)
    if (!readable) return undefined
    const { notification, error } = readable
    if (this.hasExpired(stored, possibleDuplicate)) {
      this.tell('expired', notification)
      return undefined
    }
    if (error) this.report(error)
    const pending: PromiseLike<unknown>[] = []
    // emit() would lose what the handlers return.
    for (const handler of this.rawListeners('notification')) {
      try {
        const result: unknown = handler.call(this, notification)
        if (isPromise(result)) pending.push(result)
      } catch (cause) {
        this.handlerFailed(cause)
      }
    }
    return pending.length > 0 ? this.settle(pending) : undefined
  }

  /** By the server's clock. What was only for now is not for later: after a restart it is over. */
  private hasExpired({ expiresAtMs }: StoredNotification, isAfterRestart: boolean): boolean {
    if (expiresAtMs === 0) return isAfterRestart
    return this.clock.now() + this.driver.clockOffsetMs > expiresAtMs + this.settings.expirySlackMs
  }

  private async settle(pending: PromiseLike<unknown>[]): Promise<void> {
    for (const result of await Promise.allSettled(pending)) {
      if (result.status === 'rejected') this.handlerFailed(result.reason)
    }
  }

  /** A listener that throws must not reach into the machine that called it. */
  private tell<K extends keyof ClientEvents>(name: K, ...details: ClientEvents[K]): void {
    try {
      // The generic parameter is one key at a time here, which the emitter's types cannot express.
      ;(this as EventEmitter).emit(name, ...details)
    } catch (cause) {
      // A listener of errors that throws has nobody left to tell: it ends as an unhandled rejection.
      if (name === 'error') Promise.reject(cause)
      else this.handlerFailed(cause)
    }
  }

  private handlerFailed(cause: unknown): void {
    this.report(
      new DeviceError('handler_failed', cause instanceof Error ? cause.message : String(cause), {
        cause,
      }),
    )
  }

  private report(error: DeviceError): void {
    if (this.listenerCount('error') > 0) this.tell('error', error)
  }
}

/**
 * The user that a token names, for telling registrations apart on this device; the server alone verifies it.
 * Throws DeviceError where it is no JWT.
 */
function userOf(userToken: string): string {
  if (userToken === '') return ''
  try {
    const claims: unknown = JSON.parse(Buffer.from(userToken.split('.')[1] ?? '', 'base64url').toString('utf8'))
    if (typeof claims === 'object' && claims !== null && 'sub' in claims && typeof claims.sub === 'string') {
      return claims.sub
    }
  } catch (cause) {
    throw new DeviceError('request_refused', 'the user token is no JWT', { serverCode: 'bad_user_token', cause })
  }
  throw new DeviceError('request_refused', 'the user token names nobody', { serverCode: 'bad_user_token' })
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
