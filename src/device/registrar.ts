/**
 * Keeps the device's registrations and topics and the server's the same: carries wishes to the server, takes its answers
 * into the state, and asks for everything again when WELCOME tells another version than the device last agreed with.
 */
import type { DeviceFrame, DoneFrame, ErrorFrame, RegisteredFrame } from '../../protocol/frame-types.js'
import { type Outcome, type RequestSettings, Requests, type Wish } from './requests.js'
import type { DeviceState } from './state.js'
import type { Turns } from './turn.js'

export class Registrar {
  private readonly requests: Requests
  /** Version of the subscriptions as the server last said; -1: it never did. */
  private version = -1
  /** Something could not be asked for again: the versions must go on to differ. */
  private failed = false

  constructor(
    private readonly state: DeviceState,
    private readonly turns: Turns,
    settings: RequestSettings,
  ) {
    this.requests = new Requests(settings)
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
    if (this.state.subscriptions < 0 || this.state.subscriptions === version) return
    // A user's registration needs a fresh token of the application: it asks when it starts.
    for (const { application, user } of this.state.registrations.values()) {
      if (user === '') this.requests.add({ kind: 'register', application, user, userToken: '' }, null, nowMs)
    }
    for (const { application, user, topic } of this.state.topicList()) {
      this.requests.add({ kind: 'subscribe', application, user, topic }, null, nowMs)
    }
  }

  nextAtMs(): number {
    return this.requests.nextAtMs()
  }

  /** Frames to send now. */
  due(nowMs: number): DeviceFrame[] {
    if (this.state.subscriptions === this.version) {
      for (const outcome of this.requests.known(this.state)) this.end(outcome)
    }
    const { frames, failed } = this.requests.due(nowMs, this.state)
    for (const outcome of failed) this.end(outcome)
    return frames
  }

  answered(nowMs: number, frame: RegisteredFrame | DoneFrame): void {
    this.version = frame.subscriptions
    const outcome = this.requests.answered(frame.request, nowMs)
    if (!outcome) return
    if (frame.type === 'REGISTERED') {
      const { application, user } = outcome.wish
      const { registration: number, registrationId, project } = frame
      const registration = { number, application, user, registrationId, project }
      this.turns.change({ kind: 'registered', registration })
      this.turns.tell({ kind: 'registered', registration })
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

  private end({ wish, callers, error }: Outcome): void {
    if (!error) this.fulfil(wish)
    if (callers.length === 0 && error?.code === 'request_timeout') this.failed = true
    // While anything waits, the state is not yet what that version stands for.
    const agrees = this.requests.size === 0 && !this.failed && this.version >= 0
    if (agrees && this.state.subscriptions !== this.version) {
      this.turns.change({ kind: 'subscriptions', version: this.version })
    }
    const registration = this.state.registrationOf(wish.application, wish.user)
    // Bad news depends on nothing durable.
    if (error && callers.length === 0) {
      if (error.code !== 'stopped') this.turns.notice({ kind: 'error', error })
    } else if (error) this.turns.notice({ kind: 'answered', callers, registration, error })
    else if (callers.length > 0) this.turns.tell({ kind: 'answered', callers, registration, error })
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
