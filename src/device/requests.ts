/**
 * What the device asks of the server: REGISTER and the like, sent again until answered. Every request is idempotent, so
 * one that was cut off is simply repeated, on the same connection after a time-out or on the next one. Pure.
 */
import { Errors } from '../../protocol/errors.js'
import type { DeviceFrame } from '../../protocol/frame-types.js'
import { DeviceError } from './errors.js'
import type { DeviceState } from './state.js'

/** A registration is named by application and user: its number may change when a server lost its tables. */
export type Wish =
  | { kind: 'register'; application: string; user: string; userToken: string }
  | { kind: 'unregister'; application: string; user: string }
  | { kind: 'subscribe' | 'unsubscribe'; application: string; user: string; topic: string }

export interface RequestSettings {
  requestTimeoutMs: number
  requestAttemptsMax: number
  requestsMax: number
  retryAfterMsMax: number
}

interface Pending {
  request: number
  wish: Wish
  /** Who waits; empty: the device itself (registering anew). */
  callers: number[]
  attempts: number
  /** When to send it (again). */
  dueAtMs: number
}

/** How a wish ended. */
export interface Outcome {
  wish: Wish
  callers: readonly number[]
  error: DeviceError | null
}

export class Requests {
  private readonly pending = new Map<number, Pending>()
  private lastRequest = 0

  constructor(private readonly settings: RequestSettings) {}

  get size(): number {
    return this.pending.size
  }

  /** A wish that waits already is shared. False: there are as many as the limit. */
  add(wish: Wish, caller: number | null, nowMs: number): boolean {
    const key = JSON.stringify(wish)
    for (const p of this.pending.values()) {
      if (JSON.stringify(p.wish) !== key) continue
      if (caller !== null) p.callers.push(caller)
      return true
    }
    if (this.pending.size >= this.settings.requestsMax) return false
    this.lastRequest = (this.lastRequest % 0xffff_fffe) + 1
    const callers = caller === null ? [] : [caller]
    this.pending.set(this.lastRequest, { request: this.lastRequest, wish, callers, attempts: 0, dueAtMs: nowMs })
    return true
  }

  /** A new connection: everything that waits is due, whenever it was last sent. */
  restart(nowMs: number): void {
    for (const p of this.pending.values()) p.dueAtMs = nowMs
  }

  /** Ends the wishes that are fulfilled, where the server's table is known to be as this device left it. */
  known(state: DeviceState): Outcome[] {
    const outcomes: Outcome[] = []
    for (const p of this.pending.values()) {
      const { wish } = p
      const registration = state.registrationOf(wish.application, wish.user)
      // A user's registration is asked for again: its token may say something new.
      const isRegistered = wish.kind === 'register' && wish.userToken === '' && registration !== null
      const isSubscribed = wish.kind === 'subscribe' && state.isSubscribed(wish)
      if (p.attempts === 0 && (isRegistered || isSubscribed)) outcomes.push(this.end(p, null))
    }
    return outcomes
  }

  nextAtMs(): number {
    let next = Number.POSITIVE_INFINITY
    for (const p of this.pending.values()) next = Math.min(next, p.dueAtMs)
    return next
  }

  /** Frames to send now, and the wishes that end without an answer. */
  due(nowMs: number, state: DeviceState): { frames: DeviceFrame[]; failed: Outcome[] } {
    const frames: DeviceFrame[] = []
    const failed: Outcome[] = []
    for (const p of this.pending.values()) {
      if (p.dueAtMs > nowMs) continue
      if (p.attempts >= this.settings.requestAttemptsMax) {
        failed.push(this.end(p, new DeviceError('request_timeout')))
        continue
      }
      const frame = this.frameOf(p, state)
      if (frame) {
        p.attempts++
        frames.push(frame)
        p.dueAtMs = nowMs + this.settings.requestTimeoutMs
      } else if (this.isRegistering(p.wish)) {
        p.dueAtMs = nowMs + this.settings.requestTimeoutMs
      } else {
        failed.push(this.end(p, new DeviceError('no_registration', p.wish.application)))
      }
    }
    return { frames, failed }
  }

  /** REGISTERED or DONE came. Null: an answer to nothing that waits (a repeated one). */
  answered(request: number): Outcome | null {
    const p = this.pending.get(request)
    if (!p) return null
    // What waited for a registration's number can go now.
    if (p.wish.kind === 'register')
      for (const other of this.pending.values()) if (!this.wasSent(other)) other.dueAtMs = 0
    return this.end(p, null)
  }

  /** ERROR came for it. Null: it is tried again, or nothing like it waits. */
  refused(request: number, code: string, detail: string, retryAfterMs: number, nowMs: number): Outcome | null {
    const p = this.pending.get(request)
    if (!p) return null
    const isRetried = code in Errors && Errors[code as keyof typeof Errors].next === 'retry'
    if (isRetried && p.attempts < this.settings.requestAttemptsMax) {
      const afterMs = Math.min(retryAfterMs, this.settings.retryAfterMsMax)
      p.dueAtMs = nowMs + Math.max(afterMs, this.settings.requestTimeoutMs / 10)
      return null
    }
    return this.end(p, new DeviceError('request_refused', `${code}: ${detail}`, { serverCode: code }))
  }

  /** The client closes: nobody waits any longer. */
  abandon(): Outcome[] {
    return [...this.pending.values()].map((p) => this.end(p, new DeviceError('stopped')))
  }

  private end(p: Pending, error: DeviceError | null): Outcome {
    this.pending.delete(p.request)
    return { wish: p.wish, callers: p.callers, error }
  }

  private wasSent(p: Pending): boolean {
    return p.attempts > 0
  }

  private isRegistering(wish: Wish): boolean {
    for (const { wish: other } of this.pending.values()) {
      if (other.kind === 'register' && other.application === wish.application && other.user === wish.user) return true
    }
    return false
  }

  /** Null: its registration has no number yet. */
  private frameOf({ request, wish }: Pending, state: DeviceState): DeviceFrame | null {
    if (wish.kind === 'register') {
      return { type: 'REGISTER', request, application: wish.application, userToken: wish.userToken }
    }
    const registration = state.registrationOf(wish.application, wish.user)?.number
    if (registration === undefined) return null
    if (wish.kind === 'unregister') return { type: 'UNREGISTER', request, registration }
    const type = wish.kind === 'subscribe' ? 'SUBSCRIBE' : 'UNSUBSCRIBE'
    return { type, request, registration, topic: wish.topic }
  }
}
