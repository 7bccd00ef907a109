/** Helpers for tests of the client: a client on a scripted server, a known state, and events as promises. */
import type { EventEmitter } from 'node:events'
import type { Test } from 'tap'
import { BorealisClient, type ClientOptions, type Notification } from '../../src/device/index.js'
import type { Change } from '../../src/device/state/state.js'
import { MemoryStateStore, type StateStore } from '../../src/device/state/state-store.js'
import { ScriptedServer } from './scripted-server.js'

/** Short delays, so that no test waits for a default. */
export const FAST = { reconnectBaseMs: 10, reconnectCapMs: 20, stableMs: 60_000, closeGraceMs: 500 }

export const IDENTITY = { deviceId: 'dev_aaaaaaaaaaaaaaaaaaaa', token: 'token', expiresAtMs: 0, url: '' }

export const REGISTRATION = { number: 1, application: 'app_a', user: '', registrationId: 'rid-1', project: 'acme' }

/** The state of a device that is enrolled and has registered one application. */
export const KNOWN: Change[] = [
  { kind: 'identity', identity: IDENTITY },
  { kind: 'registered', registration: REGISTRATION },
  { kind: 'subscriptions', version: 1 },
]

export function memory(): MemoryStateStore {
  const store = new MemoryStateStore()
  for (const change of KNOWN) store.state.apply(change)
  return store
}

export async function server(t: Test): Promise<ScriptedServer> {
  const scripted = await ScriptedServer.start()
  t.teardown(() => scripted.stop())
  return scripted
}

export function client(t: Test, url: string, store: StateStore, options: Partial<ClientOptions> = {}): BorealisClient {
  const made = new BorealisClient({
    store,
    url,
    random: Math.random,
    ...options,
    settings: { ...FAST, ...options.settings },
  })
  t.teardown(() => made.close())
  return made
}

/** Resolves with the first argument of the next event. Unlike once(), it does not reject at an `error` event. */
export function event<T>(from: BorealisClient, name: string): Promise<T> {
  return new Promise((resolve) => {
    ;(from as EventEmitter).once(name, resolve)
  })
}

/** Collects the notifications of a client; `next(n)` resolves with all of them when there are n. */
export class Inbox {
  readonly notifications: Notification[] = []
  private readonly waiting: { count: number; resolve: () => void }[] = []

  constructor(from: BorealisClient) {
    from.on('notification', (notification) => {
      this.notifications.push(notification)
      for (const w of this.waiting) if (w.count <= this.notifications.length) w.resolve()
    })
  }

  async next(count: number): Promise<Notification[]> {
    if (this.notifications.length < count) {
      await new Promise<void>((resolve) => this.waiting.push({ count, resolve }))
    }
    return this.notifications
  }
}
