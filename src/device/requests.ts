/**
 * Requests of the device under way: each is sent again, with a new number, until it is answered. All are idempotent, so
 * one that was cut off is simply repeated, on this connection after a time-out or on the next. PROTOCOL.md, "Requests".
 */
import { Errors } from '../../protocol/errors.js'
import type { DeviceFrame, ErrorFrame } from '../../protocol/frame-types.js'
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
  requestsInFlightMax: number
  retryAfterMsMax: number
}

interface Pending {
  wish: Wish
  key: string
  /** Who waits; empty: the device itself (registering anew). */
  callers: number[]
  attempts: number
  /** Number under which it was sent and not answered; 0: it waits to be sent. */
  request: number
  /** When to send it (again). */
  dueAtMs: number
}

/** How a wish ended. */
export interface Outcome {
  wish: Wish
  callers: readonly number[]
  error: DeviceError | null
}

/** Share of requestTimeoutMs that a refused request waits at least. */
const RETRY_SHARE = 0.1

export class Requests {
  private readonly pending = new Map<string, Pending>()
  private readonly underWay = new Map<number, Pending>()
  private lastRequest = 0

  constructor(private readonly settings: RequestSettings) {}

  get size(): number {
    return this.pending.size
  }

  /** A wish that waits already is shared. False: there are as many as the limit. */
  add(wish: Wish, caller: number | null, nowMs: number): boolean {
    const key = JSON.stringify(wish)
    const callers = caller === null ? [] : [caller]
    const same = this.pending.get(key)
    if (same) {
      same.callers.push(...callers)
      return true
    }
    if (this.pending.size >= this.settings.requestsMax) return false
    this.pending.set(key, { wish, key, callers, attempts: 0, request: 0, dueAtMs: nowMs })
    return true
  }

  /** A new connection: everything that waits is due, whenever it was last sent. */
  restart(nowMs: number): void {
    for (const p of this.pending.values()) this.again(p, nowMs)
  }

  /** Ends the wishes that are fulfilled, where the server's table is known to be as this device left it. */
  known(state: DeviceState): Outcome[] {
    const outcomes: Outcome[] = []
    for (const p of this.pending.values()) {
      const { wish } = p
      // A user's registration is asked for again: its token may say something new.
      const isRegistered =
        wish.kind === 'register' && wish.userToken === '' && state.registrationOf(wish.application, wish.user) !== null
      const isSubscribed = wish.kind === 'subscribe' && state.isSubscribed(wish)
      if (p.attempts === 0 && (isRegistered || isSubscribed)) outcomes.push(this.end(p, null))
    }
    return outcomes
  }

  nextAtMs(): number {
    const isFull = this.underWay.size >= this.settings.requestsInFlightMax
    let next = Number.POSITIVE_INFINITY
    for (const p of this.pending.values()) if (p.request !== 0 || !isFull) next = Math.min(next, p.dueAtMs)
    return next
  }

  /** Frames to send now, and the wishes that end without an answer. */
  due(nowMs: number, state: DeviceState): { frames: DeviceFrame[]; failed: Outcome[] } {
    const frames: DeviceFrame[] = []
    const failed: Outcome[] = []
    for (const p of this.pending.values()) {
      if (p.dueAtMs > nowMs) continue
      this.again(p, p.dueAtMs)
      if (p.attempts >= this.settings.requestAttemptsMax) failed.push(this.end(p, new DeviceError('request_timeout')))
      else if (this.waitsForNumber(p.wish, state)) p.dueAtMs = nowMs + this.settings.requestTimeoutMs
      else if (p.wish.kind !== 'register' && !state.registrationOf(p.wish.application, p.wish.user))
        failed.push(this.end(p, new DeviceError('no_registration', p.wish.application)))
      else if (this.underWay.size < this.settings.requestsInFlightMax) frames.push(this.send(p, nowMs, state))
    }
    return { frames, failed }
  }

  /** REGISTERED or DONE came. Null: an answer to nothing that is under way (to an earlier attempt). */
  answered(request: number, nowMs: number): Outcome | null {
    const p = this.underWay.get(request)
    if (!p) return null
    // What waited for a registration's number, or for room, can go now.
    for (const other of this.pending.values()) if (other.attempts === 0) other.dueAtMs = nowMs
    return this.end(p, null)
  }

  /** ERROR came for it. Null: it is tried again, or nothing like it is under way. */
  refused({ request, code, detail, retryAfterMs }: ErrorFrame, nowMs: number): Outcome | null {
    const p = this.underWay.get(request)
    if (!p) return null
    const isEnd = p.wish.kind === 'unregister' || p.wish.kind === 'unsubscribe'
    if (isEnd && code === 'unknown_registration') return this.end(p, null)
    if (isRetried(code, retryAfterMs) && p.attempts < this.settings.requestAttemptsMax) {
      const leastMs = this.settings.requestTimeoutMs * RETRY_SHARE
      this.again(p, nowMs + Math.max(Math.min(retryAfterMs, this.settings.retryAfterMsMax), leastMs))
      return null
    }
    return this.end(p, new DeviceError('request_refused', `${code}: ${detail}`, { serverCode: code }))
  }

  /** The client closes: nobody waits any longer. */
  abandon(): Outcome[] {
    return [...this.pending.values()].map((p) => this.end(p, new DeviceError('stopped')))
  }

  private send(p: Pending, nowMs: number, state: DeviceState): DeviceFrame {
    this.lastRequest = (this.lastRequest % 0xffff_fffe) + 1
    p.request = this.lastRequest
    p.attempts++
    p.dueAtMs = nowMs + this.settings.requestTimeoutMs
    this.underWay.set(p.request, p)
    return frameOf(p, state)
  }

  private again(p: Pending, dueAtMs: number): void {
    this.underWay.delete(p.request)
    p.request = 0
    p.dueAtMs = dueAtMs
  }

  private end(p: Pending, error: DeviceError | null): Outcome {
    this.underWay.delete(p.request)
    this.pending.delete(p.key)
    return { wish: p.wish, callers: p.callers, error }
  }

  /** Its registration is being asked for, and has no number before that is answered. */
  private waitsForNumber(wish: Wish, state: DeviceState): boolean {
    if (wish.kind === 'register' || state.registrationOf(wish.application, wish.user)) return false
    for (const { wish: other } of this.pending.values()) {
      if (other.kind === 'register' && other.application === wish.application && other.user === wish.user) return true
    }
    return false
  }
}

/** A code of a later version is worth another try where it says when. */
function isRetried(code: string, retryAfterMs: number): boolean {
  return code in Errors ? Errors[code as keyof typeof Errors].next === 'retry' : retryAfterMs > 0
}

function frameOf({ request, wish }: Pending, state: DeviceState): DeviceFrame {
  if (wish.kind === 'register') {
    return { type: 'REGISTER', request, application: wish.application, userToken: wish.userToken }
  }
  const registration = state.registrationOf(wish.application, wish.user)?.number ?? 0
  if (wish.kind === 'unregister') return { type: 'UNREGISTER', request, registration }
  const type = wish.kind === 'subscribe' ? 'SUBSCRIBE' : 'UNSUBSCRIBE'
  return { type, request, registration, topic: wish.topic }
}
