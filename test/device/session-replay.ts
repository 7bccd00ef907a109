/** Replays a session of protocol/vectors/sessions.json to a device: the parts of the server and of the application. */
import type { Test } from 'tap'
import { decodeFrames } from '../../protocol/decode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { DeviceFrame, RegisterFrame, ServerFrame, SubscribeFrame } from '../../protocol/frame-types.js'
import { frameToJson } from '../../protocol/json-form.js'
import { readNotification } from '../../src/device/notification.js'
import type { Change } from '../../src/device/state/state.js'
import { frameFromJson } from '../protocol/from-json.js'
import type { CloseStep, MessageStep, Session } from '../protocol/sessions.js'
import { bytesOf } from '../protocol/support.js'
import type { MachineModel } from './machine.js'

/** Longer than every wait of a session, which is a keepalive interval or the longest backoff. */
const WAIT_MS_MAX = 200_000

export class Replay {
  readonly handedOver: string[] = []
  readonly gaps: { count: number; reason: string }[] = []
  private taken = 0
  private pings = 0

  constructor(
    private readonly t: Test,
    private readonly model: MachineModel,
  ) {
    const { event } = model
    model.event = (reported) => {
      if (reported.kind === 'gap') this.gaps.push({ count: reported.count, reason: reported.reason })
      // The client uses the same function to decide whether a notification is for a registration of this device.
      if (
        reported.kind === 'notification' &&
        readNotification(reported.notification, false, model.memory, model.settings)
      ) {
        this.handedOver.push(String(reported.notification.id))
      }
      event.call(model, reported)
    }
  }

  step(step: MessageStep | CloseStep): void {
    if ('close' in step) this.close(step)
    else if (step.direction === 'server') this.receive(step)
    else this.expect(step)
  }

  unexpected(): unknown[] {
    return this.model.sent.slice(this.taken)
  }

  private close({ direction, close, meaning }: CloseStep): void {
    if (direction !== 'device') {
      this.model.loseSocket(close)
      return
    }
    this.wait(() => !this.model.socketOpen)
    this.t.notOk(this.model.socketOpen, meaning)
    this.t.equal(this.model.closedWith, close, meaning)
    if (this.model.sent[this.taken]?.type === 'BYE') this.taken++
  }

  private receive({ hex }: MessageStep): void {
    const decoded = decodeFrames(bytesOf(hex), { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    this.model.receive(...(decoded.frames as ServerFrame[]))
    this.model.settle()
  }

  private expect({ frames, wish, meaning }: MessageStep): void {
    for (const wanted of frames.map(frameFromJson) as DeviceFrame[]) {
      if (wish) this.request(wanted as RegisterFrame | SubscribeFrame)
      if (wanted.type === 'HELLO') this.wait(() => this.model.machine.state === 'connecting')
      this.model.openSocket()
      this.wait(() => this.model.sent.length > this.taken || this.model.pings > this.pings)
      if (wanted.type === 'PING') {
        this.pings++
        this.t.equal(this.model.pings, this.pings, meaning)
        continue
      }
      this.t.strictSame(withoutClient(this.model.sent[this.taken++]), withoutClient(wanted), meaning)
    }
  }

  /** Makes the request of the application that leads to this frame. */
  private request(frame: RegisterFrame | SubscribeFrame): void {
    const { machine, memory, now } = this.model
    if (frame.type === 'REGISTER') {
      const { application, userToken } = frame
      machine.request(now, { kind: 'register', application, user: '', userToken }, 1)
      return
    }
    const { application, user } = memory.registrations.get(frame.registration) ?? { application: '', user: '' }
    machine.request(now, { kind: 'subscribe', application, user, topic: frame.topic }, 1)
  }

  /** Advances the clock until the condition holds, by at most WAIT_MS_MAX. */
  private wait(holds: () => boolean): void {
    const { model } = this
    const endsAt = model.now + WAIT_MS_MAX
    for (model.settle(); !holds() && model.now < endsAt; model.settle()) {
      model.advance(Math.max(1, Math.min(model.machine.nextInMs(model.now), WAIT_MS_MAX)))
    }
  }
}

/** The changes that bring a new device to the state that the session begins with. */
export function changesOf({ given }: Session): Change[] {
  const identity = { deviceId: 'dev_aaaaaaaaaaaaaaaaaaaa', token: given.token, expiresAtMs: 0, url: '' }
  const changes: Change[] = [
    { kind: 'identity', identity },
    { kind: 'connection', connection: given.connection },
  ]
  for (const { topics, ...registration } of given.registrations) {
    changes.push({ kind: 'registered', registration: { ...registration, user: '' } })
    for (const topic of topics) {
      changes.push({
        kind: 'topic',
        topic: { application: registration.application, user: '', topic },
        subscribed: true,
      })
    }
  }
  if (given.subscriptions !== null) changes.push({ kind: 'subscriptions', version: given.subscriptions })
  if (given.cursor)
    changes.push({ kind: 'cursor', cursor: { ...given.cursor, incarnation: BigInt(given.cursor.incarnation) } })
  if (given.gap) changes.push({ kind: 'gap', mark: { ...given.gap, queue: BigInt(given.gap.queue) } })
  return changes
}

function withoutClient(frame: DeviceFrame | undefined): unknown {
  if (frame?.type === 'HELLO') return frameToJson({ ...frame, client: null })
  return frame ? frameToJson(frame) : null
}
