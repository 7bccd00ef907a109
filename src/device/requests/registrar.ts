/**
 * Keeps the device's registrations and topics and the server's the same: carries wishes to the server, takes its answers
 * into the state, and asks for everything again when WELCOME tells another version than the device last agreed with.
 */
import type { DeviceFrame, DoneFrame, ErrorFrame, RegisteredFrame } from '../../../protocol/frame-types.js'
import type { DeviceState } from '../state/state.js'
import type { Turns } from '../turn.js'
import { type EndedRequest, type RequestSettings, Requests, type Wish } from './requests.js'

export class Registrar {
  private readonly requests: Requests
  /** Version of the subscriptions as the server last said; -1: it never did. */
  private version = -1
  /** Something was not asked for, or nobody knows what came of it: what stands here is no more than a guess until WELCOME. */
  private failed = false
  /** Registrations that the service may not have as they are here: their topics are asked for again with their number. */
  private readonly stale = new Set<string>()

  constructor(
    private readonly state: DeviceState,
    private readonly turns: Turns,
    settings: RequestSettings,
    random: () => number,
  ) {
    this.requests = new Requests(settings, random)
  }

  get isAsking(): boolean {
    return this.requests.isAsking
  }

  /** False: as many wishes wait as the limit. */
  ask(nowMs: number, wish: Wish, caller: number | null): boolean {
    return this.requests.add(wish, caller, nowMs)
  }

  /** WELCOME came. */
  connected(nowMs: number, version: number): void {
    this.version = version
    this.failed = false
    this.requests.restart(nowMs)
    this.stale.clear()
    if (this.state.subscriptions === version) return
    for (const { application, user } of this.state.registrations.values()) {
      this.stale.add(keyOf(application, user))
      // A user's registration needs a token of the application, which is not kept: it asks when it starts.
      if (user === '') this.repeat(nowMs, { kind: 'register', application, user, userToken: '' })
    }
  }

  nextAtMs(): number {
    return this.requests.nextAtMs()
  }

  /** Frames to send now. */
  due(nowMs: number): DeviceFrame[] {
    if (this.state.subscriptions === this.version && !this.failed) {
      for (const outcome of this.requests.known(this.state)) this.end(outcome)
    }
    const { frames, failed } = this.requests.due(nowMs, this.state)
    for (const outcome of failed) this.end(outcome)
    return frames
  }

  answered(nowMs: number, frame: RegisteredFrame | DoneFrame): void {
    // Answers may come in any order.
    this.version = Math.max(this.version, frame.subscriptions)
    const outcome = this.requests.answered(frame.request)
    if (!outcome) return
    if (frame.type === 'REGISTERED') {
      const { application, user } = outcome.wish
      const before = this.state.registrationOf(application, user)
      const { registration: number, registrationId, project } = frame
      const registration = { number, application, user, registrationId, project }
      this.turns.change({ kind: 'registered', registration })
      this.turns.tell({ kind: 'registered', registration })
      if (this.stale.has(keyOf(application, user)) || (before && before.number !== number)) {
        for (const t of this.state.topicList()) {
          if (t.application === application && t.user === user) this.repeat(nowMs, { kind: 'subscribe', ...t })
        }
      }
    }
    this.end(outcome)
  }

  refused(nowMs: number, frame: ErrorFrame): void {
    const outcome = this.requests.refused(frame, nowMs)
    if (outcome) this.end(outcome)
  }

  abandon(): void {
    for (const outcome of this.requests.abandon()) this.end(outcome)
  }

  private end({ wish, callers, error, isUnknown }: EndedRequest): void {
    if (!error) this.fulfil(wish)
    // What was left out because it was about to end goes on after all.
    const isStillThere =
      error?.code === 'request_refused' && (wish.kind === 'unregister' || wish.kind === 'unsubscribe')
    if (isUnknown || isStillThere) this.failed = true
    else if (wish.kind === 'register' || wish.kind === 'unregister')
      this.stale.delete(keyOf(wish.application, wish.user))
    // While anything waits, the state is not yet what that version stands for.
    const isComplete = this.requests.size === 0 && this.stale.size === 0 && !this.failed
    const agrees = isComplete && this.version >= 0
    if (agrees && this.state.subscriptions !== this.version) {
      this.turns.change({ kind: 'subscriptions', version: this.version })
    }
    if (wish.kind === 'register' || wish.kind === 'subscribe') this.turns.notice({ kind: 'asked' })
    const registration = this.state.registrationOf(wish.application, wish.user)
    // Bad news depends on nothing durable.
    if (error && callers.length === 0) {
      if (error.code !== 'stopped') this.turns.notice({ kind: 'error', error })
    } else if (error) this.turns.notice({ kind: 'answered', callers, registration, error })
    else if (callers.length > 0) this.turns.tell({ kind: 'answered', callers, registration, error })
  }

  /** Asks for what stands here already, since the service may not have it. */
  private repeat(nowMs: number, wish: Wish): void {
    if (!this.requests.add(wish, null, nowMs)) this.failed = true
  }

  /** What was asked for is so now. */
  private fulfil(wish: Wish): void {
    const { application, user } = wish
    if (wish.kind === 'unregister') this.turns.change({ kind: 'ended', application, user })
    if (wish.kind !== 'subscribe' && wish.kind !== 'unsubscribe') return
    const subscribed = wish.kind === 'subscribe'
    const topic = { application, user, topic: wish.topic }
    if (this.state.isSubscribed(topic) !== subscribed) this.turns.change({ kind: 'topic', topic, subscribed })
  }
}

function keyOf(application: string, user: string): string {
  return `${application}/${user}`
}
