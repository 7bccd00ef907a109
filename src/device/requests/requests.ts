/**
 * Requests of the device under way: each is sent again, with a new number, until it is answered. All are idempotent, so
 * one that was cut off is simply repeated, on this connection after a time-out or on the next. PROTOCOL.md, "Requests".
 */
import { DeviceRequestErrors } from '../../../protocol/errors.js'
import type { DeviceFrame, ErrorFrame } from '../../../protocol/frame-types.js'
import { DeviceError } from '../errors.js'
import type { DeviceState } from '../state/state.js'

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
  requestSpacingMs: number
  reconnectBaseMs: number
  reconnectCapMs: number
}

interface Pending {
  wish: Wish
  key: string
  /** Who waits; empty: the device itself (registering anew). */
  callers: number[]
  /** Earlier wishes that are about the same thing and end otherwise: it is sent when they have ended. */
  after: Set<Pending>
  attempts: number
  /** How often the server asked to try again. */
  retries: number
  /** Its registration was unknown and is being asked for anew: once. */
  renewed: boolean
  /** The service said that it is not as it stands here: to be asked for whatever the versions say. */
  isKnownWrong: boolean
  /** Number under which it was sent and not answered; 0: it waits to be sent. */
  request: number
  /** When to send it (again); Infinity: when what it waits for has ended. */
  dueAtMs: number
}

/** How a wish ended. */
export interface EndedRequest {
  wish: Wish
  callers: readonly number[]
  error: DeviceError | null
  /** Nobody knows what the server made of it: an attempt was not answered, or by a refusal that says nothing of it. */
  isUnknown: boolean
}

export class Requests {
  /** In the order in which they were asked for. */
  private readonly pending = new Set<Pending>()
  private readonly underWay = new Map<number, Pending>()
  private lastRequest = 0
  private nextSendAtMs = 0

  constructor(
    private readonly settings: RequestSettings,
    private readonly random: () => number,
  ) {}

  get size(): number {
    return this.pending.size
  }

  /**
   * A wish that waits already is shared, unless what was asked for since is its opposite. What the device asks for of itself
   * is left out where it is about to end. False: there are as many as the limit.
   */
  add(wish: Wish, caller: number | null, nowMs: number, isKnownWrong = false): boolean {
    const key = JSON.stringify(wish)
    const callers = caller === null ? [] : [caller]
    const related = [...this.pending].filter((p) => p.key === key || isOpposite(p.wish, wish))
    const last = related.at(-1)
    if (last?.key === key) {
      last.isKnownWrong ||= isKnownWrong
      last.callers.push(...callers)
      return true
    }
    if (caller === null && last) return true
    if (this.pending.size >= this.settings.requestsMax) return false
    const fresh = { attempts: 0, retries: 0, renewed: false, isKnownWrong, request: 0, dueAtMs: nowMs }
    this.pending.add({ wish, key, callers, after: new Set(related), ...fresh })
    return true
  }

  /** A registration or a topic is being asked for: what comes for it may come before the answer. */
  get isAsking(): boolean {
    for (const { wish } of this.pending) if (wish.kind === 'register' || wish.kind === 'subscribe') return true
    return false
  }

  /** A new connection: everything that waits is due, whenever it was last sent. */
  restart(nowMs: number): void {
    for (const p of this.pending) this.again(p, nowMs)
  }

  /** Ends the wishes that are fulfilled, where the server's table is known to be as this device left it. */
  known(state: DeviceState): EndedRequest[] {
    const ended: EndedRequest[] = []
    for (const p of this.pending) {
      const { wish } = p
      // A user's registration is asked for again: its token may say something new.
      const isRegistered =
        wish.kind === 'register' && wish.userToken === '' && state.registrationOf(wish.application, wish.user) !== null
      const isSubscribed = wish.kind === 'subscribe' && state.isSubscribed(wish)
      const isFresh = p.attempts === 0 && p.after.size === 0 && !p.isKnownWrong
      if (isFresh && (isRegistered || isSubscribed)) ended.push(this.end(p, null))
    }
    return ended
  }

  nextAtMs(): number {
    const isFull = this.underWay.size >= this.settings.requestsInFlightMax
    let next = Number.POSITIVE_INFINITY
    for (const p of this.pending) {
      if (p.request !== 0) next = Math.min(next, p.dueAtMs)
      else if (!isFull) next = Math.min(next, Math.max(p.dueAtMs, this.nextSendAtMs))
    }
    return next
  }

  /** Frames to send now, and the wishes that end without an answer. */
  due(nowMs: number, state: DeviceState): { frames: DeviceFrame[]; failed: EndedRequest[] } {
    const frames: DeviceFrame[] = []
    const failed: EndedRequest[] = []
    for (const p of this.pending) {
      if (p.dueAtMs > nowMs) continue
      this.again(p, p.dueAtMs)
      if (p.attempts >= this.settings.requestAttemptsMax) failed.push(this.end(p, new DeviceError('request_timeout')))
      else if (p.after.size > 0 || this.waitsForNumber(p.wish)) p.dueAtMs = Number.POSITIVE_INFINITY
      else if (p.wish.kind !== 'register' && !state.registrationOf(p.wish.application, p.wish.user))
        failed.push(this.end(p, new DeviceError('no_registration', p.wish.application)))
      else if (this.maySend(nowMs)) frames.push(this.send(p, nowMs, state))
    }
    return { frames, failed }
  }

  /** REGISTERED or DONE came. Null: an answer to nothing that is under way (to an earlier attempt). */
  answered(request: number): EndedRequest | null {
    const p = this.underWay.get(request)
    return p ? this.end(p, null) : null
  }

  /** ERROR came for it. Null: it is tried again, or nothing like it is under way. */
  refused({ request, code, detail, retryAfterMs }: ErrorFrame, nowMs: number): EndedRequest | null {
    const p = this.underWay.get(request)
    if (!p) return null
    const isEnd = p.wish.kind === 'unregister' || p.wish.kind === 'unsubscribe'
    if (isEnd && code === 'unknown_registration') return this.end(p, null)
    if (code === 'unknown_registration' && this.renew(p, nowMs)) return null
    if (isRetried(code, retryAfterMs) && p.attempts < this.settings.requestAttemptsMax) {
      const { retryAfterMsMax, reconnectBaseMs, reconnectCapMs } = this.settings
      const ceilingMs = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(p.retries, 30))
      p.retries++
      this.again(p, nowMs + Math.min(retryAfterMs, retryAfterMsMax) + Math.floor(this.random() * ceilingMs))
      return null
    }
    const isUnknown = p.attempts > 1 || isRetried(code, retryAfterMs)
    return this.end(p, new DeviceError('request_refused', `${code}: ${detail}`, { serverCode: code }), isUnknown)
  }

  /** The client closes: nobody waits any longer. */
  abandon(): EndedRequest[] {
    return [...this.pending].map((p) => this.end(p, new DeviceError('stopped')))
  }

  private send(p: Pending, nowMs: number, state: DeviceState): DeviceFrame {
    this.lastRequest = (this.lastRequest % 0xffff_fffe) + 1
    p.request = this.lastRequest
    p.attempts++
    this.nextSendAtMs = nowMs + this.settings.requestSpacingMs
    p.dueAtMs = nowMs + this.settings.requestTimeoutMs
    this.underWay.set(p.request, p)
    return frameOf(p, state)
  }

  /** In flight no more than every server grants, and at a pace that it does not cut. */
  private maySend(nowMs: number): boolean {
    return this.underWay.size < this.settings.requestsInFlightMax && nowMs >= this.nextSendAtMs
  }

  /** The server does not know the number any more: asks for the registration, then again. Once; a user's needs its app. */
  private renew(p: Pending, nowMs: number): boolean {
    const { application, user } = p.wish
    if (p.renewed || user !== '') return false
    if (!this.add({ kind: 'register', application, user, userToken: '' }, null, nowMs, true)) return false
    p.renewed = true
    this.again(p, nowMs)
    return true
  }

  private again(p: Pending, dueAtMs: number): void {
    this.underWay.delete(p.request)
    p.request = 0
    p.dueAtMs = dueAtMs
  }

  private end(p: Pending, error: DeviceError | null, isUnknown = error?.code === 'request_timeout'): EndedRequest {
    this.underWay.delete(p.request)
    this.pending.delete(p)
    for (const other of this.pending) {
      const hadToWait = other.after.delete(p) || p.wish.kind === 'register'
      if (hadToWait && other.dueAtMs === Number.POSITIVE_INFINITY) other.dueAtMs = 0
    }
    return { wish: p.wish, callers: p.callers, error, isUnknown }
  }

  /** Its registration is being asked for: the number that is known may be another one's by now. */
  private waitsForNumber(wish: Wish): boolean {
    if (wish.kind === 'register') return false
    for (const { wish: other, after } of this.pending) {
      if (other.kind !== 'register' || other.application !== wish.application || other.user !== wish.user) continue
      // One that waits for an UNREGISTER changes nothing yet; and that may wait for this wish.
      if (after.size === 0) return true
    }
    return false
  }
}

/** The order decides what is so at the end; the server answers requests that are under way at once in any order. */
function isOpposite(a: Wish, b: Wish): boolean {
  if (a.application !== b.application || a.user !== b.user || a.kind === b.kind) return false
  if (a.kind === 'unregister' || b.kind === 'unregister') return true
  return 'topic' in a && 'topic' in b && a.topic === b.topic
}

/** PROTOCOL.md, section "ERROR": a code that the device does not know is repeated if the server says when. */
function isRetried(code: string, retryAfterMs: number): boolean {
  const known = code in DeviceRequestErrors
  return known ? DeviceRequestErrors[code as keyof typeof DeviceRequestErrors].next === 'retry' : retryAfterMs > 0
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
