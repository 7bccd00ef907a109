/**
 * Keeps the registrations and topics of the device and of the server equal. It sends commands, applies the answers to the
 * state, and sends everything again if WELCOME has another version of the subscriptions than the state.
 */
import type { DeviceFrame, DoneFrame, ErrorFrame, RegisteredFrame } from '../../../protocol/frame-types.js'
import type { DeviceState } from '../state/state.js'
import type { Turns } from '../turn.js'
import { type Command, type EndedRequest, type RequestSettings, Requests } from './requests.js'

export class Registrar {
  private readonly requests: Requests
  /** The server's latest version of the subscriptions; -1: none yet. */
  private version = -1
  /** The outcome of a command is unknown, so the state may differ from the server's until the next WELCOME. */
  private isUncertain = false
  /** Registrations that the server may not have. Their topics are subscribed again when REGISTERED gives the number. */
  private readonly stale = new Set<string>()

  constructor(
    private readonly state: DeviceState,
    private readonly turns: Turns,
    settings: RequestSettings,
    random: () => number,
  ) {
    this.requests = new Requests(settings, random)
  }

  get isRegistering(): boolean {
    return this.requests.isRegistering
  }

  /** Returns false if the limit of pending commands is reached. */
  ask(nowMs: number, command: Command, caller: number | null): boolean {
    return this.requests.add(command, caller, nowMs)
  }

  /** WELCOME arrived. */
  connected(nowMs: number, version: number): void {
    this.version = version
    this.isUncertain = false
    this.requests.restart(nowMs)
    this.stale.clear()
    if (this.state.subscriptions === version) return
    for (const { application, user } of this.state.registrations.values()) {
      this.stale.add(keyOf(application, user))
      // A user's registration needs a user token, which the device does not store. The app registers it when it starts.
      if (user === '') this.sendAgain(nowMs, { kind: 'register', application, user, userToken: '' })
    }
  }

  nextAtMs(): number {
    return this.requests.nextAtMs()
  }

  /** Frames to send now. */
  due(nowMs: number): DeviceFrame[] {
    if (this.state.subscriptions === this.version && !this.isUncertain) {
      for (const outcome of this.requests.endFulfilled(this.state)) this.end(outcome)
    }
    const { frames, failed } = this.requests.due(nowMs, this.state)
    for (const outcome of failed) this.end(outcome)
    return frames
  }

  answered(nowMs: number, frame: RegisteredFrame | DoneFrame): void {
    // The server may answer requests in any order.
    this.version = Math.max(this.version, frame.subscriptions)
    const outcome = this.requests.answered(frame.request)
    if (!outcome) return
    if (frame.type === 'REGISTERED') {
      const { application, user } = outcome.command
      const before = this.state.registrationOf(application, user)
      const { registration: number, registrationId, project } = frame
      const registration = { number, application, user, registrationId, project }
      this.turns.change({ kind: 'registered', registration })
      this.turns.emitWhenDurable({ kind: 'registered', registration })
      if (this.stale.has(keyOf(application, user)) || (before && before.number !== number)) {
        for (const t of this.state.topicList()) {
          if (t.application === application && t.user === user) this.sendAgain(nowMs, { kind: 'subscribe', ...t })
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

  private end({ command, callers, error, isUnknown }: EndedRequest): void {
    if (!error) this.applyToState(command)
    // `sendAgain()` skips a registration or topic with a pending removal. If the server refuses that removal, it may lack them.
    const isRemovalRefused =
      error?.code === 'request_refused' && (command.kind === 'unregister' || command.kind === 'unsubscribe')
    if (isUnknown || isRemovalRefused) this.isUncertain = true
    else if (command.kind === 'register' || command.kind === 'unregister')
      this.stale.delete(keyOf(command.application, command.user))
    // The state matches the server's version only when no command is pending.
    const isComplete = this.requests.size === 0 && this.stale.size === 0 && !this.isUncertain
    const agrees = isComplete && this.version >= 0
    if (agrees && this.state.subscriptions !== this.version) {
      this.turns.change({ kind: 'subscriptions', version: this.version })
    }
    if (command.kind === 'register' || command.kind === 'subscribe')
      this.turns.emitAtTurnEnd({ kind: 'registeringEnded' })
    const registration = this.state.registrationOf(command.application, command.user)
    // An error depends on no stored change, so it need not wait for the write.
    if (error && callers.length === 0) {
      if (error.code !== 'stopped') this.turns.emitAtTurnEnd({ kind: 'error', error })
    } else if (error) this.turns.emitAtTurnEnd({ kind: 'commandEnded', callers, registration, error })
    else if (callers.length > 0) this.turns.emitWhenDurable({ kind: 'commandEnded', callers, registration, error })
  }

  /** Sends a registration or topic of the state, since the server may not have it. */
  private sendAgain(nowMs: number, command: Command): void {
    if (!this.requests.add(command, null, nowMs)) this.isUncertain = true
  }

  /** The server has carried out the command. REGISTERED is applied in `answered()`, where its fields are at hand. */
  private applyToState(command: Command): void {
    const { application, user } = command
    if (command.kind === 'unregister') this.turns.change({ kind: 'ended', application, user })
    if (command.kind !== 'subscribe' && command.kind !== 'unsubscribe') return
    const subscribed = command.kind === 'subscribe'
    const topic = { application, user, topic: command.topic }
    if (this.state.isSubscribed(topic) !== subscribed) this.turns.change({ kind: 'topic', topic, subscribed })
  }
}

function keyOf(application: string, user: string): string {
  return `${application}/${user}`
}
