/**
 * The pending commands of the device. A command is sent as a request, and again under a new request number until the server
 * answers: after a timeout on the same connection, or on the next one. This is safe because all commands are idempotent.
 * PROTOCOL.md, "Requests".
 */
import { DeviceRequestErrors } from '../../../protocol/errors.js'
import type { DeviceFrame, ErrorFrame } from '../../../protocol/frame-types.js'
import { DeviceError } from '../errors.js'
import type { DeviceState } from '../state/state.js'

/**
 * The app or the device itself asks for a command. It names a registration by application and user, because the number of a
 * registration changes when a server has lost its tables.
 */
export type Command =
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
  command: Command
  key: string
  /** Numbers of the callers that wait for the end; empty: the device sends the command by itself. */
  callers: number[]
  /** Earlier commands with the opposite effect. This one is sent when they have ended. */
  after: Set<Pending>
  attempts: number
  /** Number of answers that asked the device to try again. */
  retries: number
  /** The server did not know the registration, and the device has registered it again. This happens once for a command. */
  hasRegisteredAgain: boolean
  /** The server said that it lacks the registration. So the command is sent even if the versions agree. */
  isMissingAtServer: boolean
  /** Number of the request in flight; 0: none is in flight. */
  request: number
  /** The time to send it (again); Infinity: another command has to end first. */
  dueAtMs: number
}

/** The end of a command. */
export interface EndedRequest {
  command: Command
  callers: readonly number[]
  error: DeviceError | null
  /** The server may or may not have carried out the command: an attempt had no answer, or a refusal for another reason. */
  isUnknown: boolean
}

export class Requests {
  /** In the order of `add()`. */
  private readonly pending = new Set<Pending>()
  private readonly inFlight = new Map<number, Pending>()
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
   * Adds a command, and returns false if the limit is reached. An equal pending command is shared, unless its opposite was
   * added after it. A command of the device itself (`caller` null) is skipped while an opposite command is pending.
   */
  add(command: Command, caller: number | null, nowMs: number, isMissingAtServer = false): boolean {
    const key = JSON.stringify(command)
    const callers = caller === null ? [] : [caller]
    const related = [...this.pending].filter((p) => p.key === key || isOpposite(p.command, command))
    const last = related.at(-1)
    if (last?.key === key) {
      last.isMissingAtServer ||= isMissingAtServer
      last.callers.push(...callers)
      return true
    }
    if (caller === null && last) return true
    if (this.pending.size >= this.settings.requestsMax) return false
    this.pending.add({
      command,
      key,
      callers,
      after: new Set(related),
      attempts: 0,
      retries: 0,
      hasRegisteredAgain: false,
      isMissingAtServer,
      request: 0,
      dueAtMs: nowMs,
    })
    return true
  }

  /** A REGISTER or SUBSCRIBE is pending. Messages for it may arrive before its answer. */
  get isRegistering(): boolean {
    for (const { command } of this.pending) if (command.kind === 'register' || command.kind === 'subscribe') return true
    return false
  }

  /** A new connection: all pending commands are due now. */
  restart(nowMs: number): void {
    for (const p of this.pending) this.sendAgainAt(p, nowMs)
  }

  /** Ends the commands whose effect the state has already. Call it only while the state agrees with the server. */
  endFulfilled(state: DeviceState): EndedRequest[] {
    const ended: EndedRequest[] = []
    for (const p of this.pending) {
      const { command } = p
      // A command with a user token is always sent, since the token may be a new one.
      const isRegistered =
        command.kind === 'register' &&
        command.userToken === '' &&
        state.registrationOf(command.application, command.user) !== null
      const isSubscribed = command.kind === 'subscribe' && state.isSubscribed(command)
      const isUnsent = p.attempts === 0 && p.after.size === 0 && !p.isMissingAtServer
      if (isUnsent && (isRegistered || isSubscribed)) ended.push(this.end(p, null))
    }
    return ended
  }

  nextAtMs(): number {
    const isFull = this.inFlight.size >= this.settings.requestsInFlightMax
    let next = Number.POSITIVE_INFINITY
    for (const p of this.pending) {
      if (p.request !== 0) next = Math.min(next, p.dueAtMs)
      else if (!isFull) next = Math.min(next, Math.max(p.dueAtMs, this.nextSendAtMs))
    }
    return next
  }

  /** Returns the frames to send now, and the commands that failed without an answer. */
  due(nowMs: number, state: DeviceState): { frames: DeviceFrame[]; failed: EndedRequest[] } {
    const frames: DeviceFrame[] = []
    const failed: EndedRequest[] = []
    for (const p of this.pending) {
      if (p.dueAtMs > nowMs) continue
      this.sendAgainAt(p, p.dueAtMs)
      if (p.attempts >= this.settings.requestAttemptsMax) failed.push(this.end(p, new DeviceError('request_timeout')))
      else if (p.after.size > 0 || this.waitsForNumber(p.command)) p.dueAtMs = Number.POSITIVE_INFINITY
      else if (p.command.kind !== 'register' && !state.registrationOf(p.command.application, p.command.user))
        failed.push(this.end(p, new DeviceError('no_registration', p.command.application)))
      else if (this.maySend(nowMs)) frames.push(this.send(p, nowMs, state))
    }
    return { frames, failed }
  }

  /** REGISTERED or DONE arrived. Null: it answers an earlier attempt, which has been given up. */
  answered(request: number): EndedRequest | null {
    const p = this.inFlight.get(request)
    return p ? this.end(p, null) : null
  }

  /** ERROR arrived for a request. Null: the command is tried again, or the request is not in flight. */
  refused({ request, code, detail, retryAfterMs }: ErrorFrame, nowMs: number): EndedRequest | null {
    const p = this.inFlight.get(request)
    if (!p) return null
    const isRemoval = p.command.kind === 'unregister' || p.command.kind === 'unsubscribe'
    if (isRemoval && code === 'unknown_registration') return this.end(p, null)
    if (code === 'unknown_registration' && this.registerAgain(p, nowMs)) return null
    if (isRetried(code, retryAfterMs) && p.attempts < this.settings.requestAttemptsMax) {
      const { retryAfterMsMax, reconnectBaseMs, reconnectCapMs } = this.settings
      const ceilingMs = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(p.retries, 30))
      p.retries++
      this.sendAgainAt(p, nowMs + Math.min(retryAfterMs, retryAfterMsMax) + Math.floor(this.random() * ceilingMs))
      return null
    }
    const isUnknown = p.attempts > 1 || isRetried(code, retryAfterMs)
    return this.end(p, new DeviceError('request_refused', `${code}: ${detail}`, { serverCode: code }), isUnknown)
  }

  /** The client closes, so all pending commands end with `stopped`. */
  abandon(): EndedRequest[] {
    return [...this.pending].map((p) => this.end(p, new DeviceError('stopped')))
  }

  private send(p: Pending, nowMs: number, state: DeviceState): DeviceFrame {
    this.lastRequest = (this.lastRequest % 0xffff_fffe) + 1
    p.request = this.lastRequest
    p.attempts++
    this.nextSendAtMs = nowMs + this.settings.requestSpacingMs
    p.dueAtMs = nowMs + this.settings.requestTimeoutMs
    this.inFlight.set(p.request, p)
    return frameOf(p, state)
  }

  /** Keeps the limits of servers: requests in flight, and frames a second. */
  private maySend(nowMs: number): boolean {
    return this.inFlight.size < this.settings.requestsInFlightMax && nowMs >= this.nextSendAtMs
  }

  /** The server does not know the registration: registers it again, and then repeats the command. Returns false if it cannot. */
  private registerAgain(p: Pending, nowMs: number): boolean {
    const { application, user } = p.command
    // The device has no user token for a user's registration.
    if (p.hasRegisteredAgain || user !== '') return false
    if (!this.add({ kind: 'register', application, user, userToken: '' }, null, nowMs, true)) return false
    p.hasRegisteredAgain = true
    this.sendAgainAt(p, nowMs)
    return true
  }

  private sendAgainAt(p: Pending, dueAtMs: number): void {
    this.inFlight.delete(p.request)
    p.request = 0
    p.dueAtMs = dueAtMs
  }

  private end(p: Pending, error: DeviceError | null, isUnknown = error?.code === 'request_timeout'): EndedRequest {
    this.inFlight.delete(p.request)
    this.pending.delete(p)
    for (const other of this.pending) {
      const mayHaveWaited = other.after.delete(p) || p.command.kind === 'register'
      if (mayHaveWaited && other.dueAtMs === Number.POSITIVE_INFINITY) other.dueAtMs = 0
    }
    return { command: p.command, callers: p.callers, error, isUnknown }
  }

  /** True: a REGISTER for the same registration is pending, so the number in the state may be outdated. */
  private waitsForNumber(command: Command): boolean {
    if (command.kind === 'register') return false
    for (const { command: other, after } of this.pending) {
      if (other.kind !== 'register' || other.application !== command.application || other.user !== command.user)
        continue
      // A REGISTER that waits for an UNREGISTER does not count. That UNREGISTER may wait for this command: a deadlock.
      if (after.size === 0) return true
    }
    return false
  }
}

/** Two commands whose order determines the result. They are never in flight together: the server may reorder requests. */
function isOpposite(a: Command, b: Command): boolean {
  if (a.application !== b.application || a.user !== b.user || a.kind === b.kind) return false
  if (a.kind === 'unregister' || b.kind === 'unregister') return true
  return 'topic' in a && 'topic' in b && a.topic === b.topic
}

/** PROTOCOL.md, "ERROR": after an unknown code, the device tries again only if the server gave a time. */
function isRetried(code: string, retryAfterMs: number): boolean {
  const known = code in DeviceRequestErrors
  return known ? DeviceRequestErrors[code as keyof typeof DeviceRequestErrors].next === 'retry' : retryAfterMs > 0
}

function frameOf({ request, command }: Pending, state: DeviceState): DeviceFrame {
  if (command.kind === 'register') {
    return { type: 'REGISTER', request, application: command.application, userToken: command.userToken }
  }
  const registration = state.registrationOf(command.application, command.user)?.number ?? 0
  if (command.kind === 'unregister') return { type: 'UNREGISTER', request, registration }
  const type = command.kind === 'subscribe' ? 'SUBSCRIBE' : 'UNSUBSCRIBE'
  return { type, request, registration, topic: command.topic }
}
