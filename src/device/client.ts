/**
 * The client of one device. Construct it, add listeners, then call `connect()`. The client reconnects until it is closed or
 * the server refuses it for good.
 *
 * A handler of `notification` may return a promise. The client marks the notification as done and hands over the next one
 * when that promise settles. Without a listener for `notification` the client keeps notifications in the inbox. An `error`
 * without a listener is dropped, not thrown; `closed` with `reconnectInMs: null` says that the device does not reconnect.
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
import type { Command } from './requests/requests.js'
import { type DeviceSettings, deviceSettings } from './settings.js'
import type { Registration, StoredNotification } from './state/state.js'
import type { StateStore } from './state/state-store.js'

export interface ClientEvents {
  /** The device is connected. `resumed`: the server accepted a ticket instead of the token. */
  ready: [{ connection: number; serverTimeMs: number; subscriptions: number; resumed: boolean }]
  /** The server confirmed a registration. Its registrationId may differ from the earlier one. */
  registration: [Registration]
  notification: [Notification]
  /** A notification that arrived after its expiry. */
  expired: [Notification]
  /** Messages were lost; count 0: the server does not know how many. */
  gap: [{ count: number; reason: GapReason }]
  /** The device has received every group message up to this cursor. */
  caughtUp: [Cursor | null]
  error: [DeviceError]
  /** The connection ended; `reconnectInMs` null: the device does not reconnect. */
  closed: [{ code: number; name: string; reconnectInMs: number | null }]
  /** The device has a new token, which replaces the older one. */
  renewed: [{ expiresAtMs: number }]
}

export interface ClientOptions {
  /** An open store whose state has an identity. */
  store: StateStore
  /** Address of the transport (ws:// or wss://); default: the address from the enrolment. */
  url?: string
  settings?: Partial<DeviceSettings>
  client?: Partial<ClientInfo>
  clock?: Clock
  /** Random number in [0, 1) for jitter, such as Math.random. */
  random: () => number
  dial?: Dial
  /** Renews the token; default: over HTTP, at the address where the device enrolled. */
  renew?: Renew
  /** PEM certificates to trust in addition to Node's, for a service with its own certificate authority. */
  ca?: string
}

export interface RegisterOptions {
  /** JWT that names the user of the device, signed by the project's service account. */
  userToken?: string
}

/** Names a registration. A device with a single registration may leave out both fields. */
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
  /** The server's clock as the latest WELCOME told it, and the steady clock of the device then; null: none came yet. */
  private serverTime: { ms: number; steadyMs: number } | null = null
  /** Left by an earlier run, and expired if the clock of the device is right: they wait for the server's time. */
  private doubtful: StoredNotification[] = []
  private lastCaller = 0
  private connecting = false
  private closing: Promise<void> | null = null

  constructor(options: ClientOptions) {
    super()
    this.store = options.store
    this.settings = deviceSettings(options.settings)
    this.clock = options.clock ?? systemClock
    // Held notifications stay in the inbox, and a full inbox stops the reading of the socket. The held ones wait for an
    // answer on that socket, so they must never fill the inbox.
    const heldMax = Math.min(this.settings.heldMax, Math.floor(this.settings.inboxMax / 2))
    const target: HandoverTarget = {
      isReady: () => this.listenerCount('notification') > 0,
      isEarly: (notification) => this.driver.isRegistering && !hasReceiver(notification, this.store.state),
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
        clock: this.clock,
        random: options.random,
        settings: this.settings,
        identity: () => this.store.state.identity,
        clockOffsetMs: () => this.driver.clockOffsetMs,
        ...(options.renew ? { renew: options.renew } : {}),
      },
      {
        timeDrawn: (identity) => this.driver.run((machine) => machine.storeIdentity(identity)),
        renewed: (identity) => {
          this.driver.run((machine, now) => machine.renewed(now, identity))
          this.emitSafely('renewed', { expiresAtMs: identity.expiresAtMs })
        },
        refused: (error, isRequestedByServer) => {
          const { serverCode } = error
          const fatal = new DeviceError('renew_refused', serverCode ?? '', {
            serverCode: serverCode ?? '',
            fatal: true,
          })
          if (isRequestedByServer) this.driver.run((machine) => machine.renewalRefused(fatal))
          else this.report(error)
        },
        failed: (error) => this.report(error),
      },
    )
    // ClientEvents does not declare `newListener`, which EventEmitter itself emits.
    ;(this as EventEmitter).on('newListener', (name: string | symbol) => {
      // EventEmitter adds the listener after this event, so the hand-over starts in a microtask.
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

  /** Connects, and hands over the notifications that an earlier run left in the inbox. A second call has no effect. */
  connect(): void {
    if (this.connecting || this.closing) return
    this.connecting = true
    const leftover = [...this.store.state.inbox.values()]
    this.driver.run((machine, now) => machine.start(now))
    // The clock may have been set while the device was off. Half of the inbox stays free, or nothing would be read.
    const doubtful = leftover.filter(
      (notification) => this.hasExpired(notification, true) && notification.expiresAtMs > 0,
    )
    this.doubtful = doubtful.slice(-Math.max(1, Math.floor(this.settings.inboxMax / 2)))
    const waiting = new Set(this.doubtful)
    this.handOverLeft(leftover.filter((notification) => !waiting.has(notification)))
  }

  /** Resolves when the server confirms the registration, on this connection or a later one; rejects with DeviceError. */
  async register(application: string, { userToken = '' }: RegisterOptions = {}): Promise<Registration> {
    const command: Command = { kind: 'register', application, user: userOf(userToken), userToken }
    const registration = await this.ask(command)
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

  /** Sends BYE, waits at most `closeGraceMs` for the running handler, and closes the store. */
  close(): Promise<void> {
    this.closing ??= this.shutDown()
    return this.closing
  }

  private async shutDown(): Promise<void> {
    this.renewal.stop()
    this.driver.run((machine, now) => machine.stop(now))
    this.driver.dispose()
    await this.handlerFinished()
    // The last `done` is flushed in a microtask.
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

  private ask(command: Command): Promise<Registration | null> {
    return new Promise((resolve, reject) => {
      const caller = ++this.lastCaller
      this.callers.set(caller, { resolve, reject })
      if (this.driver.run((machine, now) => machine.request(now, command, caller))) return
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
        this.serverTime = { ms: details.serverTimeMs, steadyMs: this.clock.steadyMs() }
        this.handOverLeft(this.doubtful.splice(0))
        this.emitSafely(kind, details)
        this.renewal.start()
        return
      }
      case 'notification':
        this.handover.add(event.notification, false)
        return
      case 'gap':
        this.emitSafely('gap', { count: event.count, reason: event.reason })
        return
      case 'caughtUp':
        this.emitSafely('caughtUp', event.cursor)
        return
      case 'registered':
        this.emitSafely('registration', event.registration)
        return
      case 'registeringEnded':
        this.handover.releaseHeld()
        return
      case 'commandEnded':
        for (const token of event.callers) this.answer(token, event.registration, event.error)
        return
      case 'renew':
        this.renewal.requestNow()
        return
      case 'error':
        this.report(event.error)
        return
      case 'closed': {
        const { code, name, reconnectAtMs } = event
        const reconnectInMs = reconnectAtMs === null ? null : Math.max(reconnectAtMs - this.clock.now(), 0)
        if (reconnectAtMs === null) {
          this.renewal.stop()
          this.handOverLeft(this.doubtful.splice(0))
        }
        this.emitSafely('closed', { code, name, reconnectInMs })
      }
    }
  }

  private answer(token: number, registration: Registration | null, error: DeviceError | null): void {
    const caller = this.callers.get(token)
    this.callers.delete(token)
    if (error) caller?.reject(error)
    else caller?.resolve(registration)
  }

  /** Of an earlier run. */
  private handOverLeft(left: readonly StoredNotification[]): void {
    for (const notification of left) this.handover.add(notification, true)
  }

  private handOver(stored: StoredNotification, possibleDuplicate: boolean): Promise<void> | undefined {
    const readable = readNotification(stored, possibleDuplicate, this.store.state, this.settings)
    if (!readable) return undefined
    const { notification, error } = readable
    if (this.hasExpired(stored, possibleDuplicate)) {
      this.emitSafely('expired', notification)
      return undefined
    }
    if (error) this.report(error)
    const pending: PromiseLike<unknown>[] = []
    // emit() discards the promises that handlers return, so the handlers are called one by one.
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

  /** Uses the server's clock. A notification without an expiry is valid only until the process ends. */
  private hasExpired({ expiresAtMs }: StoredNotification, isAfterRestart: boolean): boolean {
    if (expiresAtMs === 0) return isAfterRestart
    return this.serverNowMs() > expiresAtMs + this.settings.expirySlackMs
  }

  /** Before the first WELCOME only a guess: the difference between the clocks is the one that an earlier run saw. */
  private serverNowMs(): number {
    const { serverTime, clock } = this
    if (serverTime) return serverTime.ms + clock.steadyMs() - serverTime.steadyMs
    return clock.now() + this.driver.clockOffsetMs
  }

  private async settle(pending: PromiseLike<unknown>[]): Promise<void> {
    for (const result of await Promise.allSettled(pending)) {
      if (result.status === 'rejected') this.handlerFailed(result.reason)
    }
  }

  /** An exception of a listener must not unwind the connection machine, which is the caller. */
  private emitSafely<K extends keyof ClientEvents>(name: K, ...details: ClientEvents[K]): void {
    try {
      // The types of EventEmitter cannot express that `name` and `details` belong to the same key.
      ;(this as EventEmitter).emit(name, ...details)
    } catch (cause) {
      // An exception of the `error` listener cannot be reported to that listener: it becomes an unhandled rejection.
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
    if (this.listenerCount('error') > 0) this.emitSafely('error', error)
  }
}

/**
 * Reads the user from a user token, to distinguish registrations on this device. Only the server verifies the token.
 * Throws DeviceError `request_refused` if the token is not a JWT or has no `sub`.
 */
function userOf(userToken: string): string {
  if (userToken === '') return ''
  try {
    const claims: unknown = JSON.parse(Buffer.from(userToken.split('.')[1] ?? '', 'base64url').toString('utf8'))
    if (typeof claims === 'object' && claims !== null && 'sub' in claims && typeof claims.sub === 'string') {
      return claims.sub
    }
  } catch (cause) {
    throw new DeviceError('request_refused', 'the user token is not a JWT', { serverCode: 'bad_user_token', cause })
  }
  throw new DeviceError('request_refused', 'the user token has no sub claim', { serverCode: 'bad_user_token' })
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
