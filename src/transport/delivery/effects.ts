/**
 * Carries out the effects of sessions: the SessionSink of a worker.
 *
 * The room `delivery` connects sessions with the core. The downlink brings frames and control requests, the uplink
 * and the settlements take reports, requests and acknowledgements, and catch-ups read offline queues.
 */
import { Close, type CloseName } from '../../../protocol/close-codes.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { type DeviceRequest, Report, type ReportCode } from '../../../protocol/envelope.js'
import { EMPTY_MESSAGE } from '../../../protocol/frame.js'
import type { ServerFrame } from '../../../protocol/frame-types.js'
import type { WorkerMetrics } from '../metrics.js'
import type { QueueRef } from '../session/in-flight.js'
import type { Registry } from '../session/registry.js'
import { errorFrame } from '../session/requests.js'
import type { Session, SessionLimits, SessionSink } from '../session/session.js'
import type { Tombstones } from '../session/tombstones.js'
import type { Socket } from '../socket/socket.js'
import type { Turns } from '../turns.js'
import type { CatchUps } from './catch-up.js'
import { Outbox } from './outbox.js'
import type { Settlements } from './settlements.js'
import type { Uplink } from './uplink.js'

export interface EffectsParts {
  turns: Turns
  registry: Registry
  catchUps: CatchUps
  uplink: Uplink
  settlements: Settlements
  tombstones: Tombstones
  metrics: WorkerMetrics
  onError: (task: string, error: unknown) => void
  /** The core has another version of the device's subscriptions than the session follows. */
  onSubscriptionsChanged: (session: Session) => void
  /** Leaves the groups that the device has no more. Resolves with false if it is not known which they are. */
  leaveGroups: (session: Session) => Promise<boolean>
  onEnded: (session: Session) => void
}

/** Reasons to close without an ERROR frame: it would tell the device nothing, or would not arrive. */
const SILENT: ReadonlySet<CloseName> = new Set(['bye', 'going_away', 'too_slow'])

/**
 * The delay that an ERROR frame asks of the device before it reconnects. A device that gets a delay does not double
 * its own (device/connection/backoff.ts). That suits `hello_timeout`: if many HELLOs are late, the cause is the
 * machine or the network.
 */
const RETRY_AFTER_MS: Partial<Record<CloseName, number>> = {
  overloaded: 2_000,
  hello_timeout: 1_000,
  unavailable: 1_000,
  rate_limited: 5_000,
}

export class Effects implements SessionSink {
  readonly outbox = new Outbox(
    (session) => this.close(session, 'too_slow'),
    (bytes) => {
      this.parts.metrics.bytesSent += bytes
    },
  )

  constructor(
    readonly limits: SessionLimits,
    private readonly parts: EffectsParts,
  ) {}

  /**
   * Runs a turn for one session. If the turn throws, the session is closed: better than a session that waits for
   * ever.
   */
  turn(session: Session, task: string, work: () => void): void {
    this.parts.turns.run(task, work, () => this.close(session, 'internal'))
  }

  forward(session: Session, frame: Uint8Array): void {
    this.parts.metrics.notified++
    this.outbox.add(session, frame)
  }

  /** Sends a group message to one session that catches up. */
  forwardGroup(session: Session, frame: Uint8Array): void {
    this.parts.metrics.notifiedGroup++
    this.outbox.add(session, frame)
  }

  send(session: Session, frame: ServerFrame): void {
    if (frame.type === 'GAP') this.parts.metrics.gaps++
    this.outbox.add(session, encodeFrame(frame))
  }

  answerEmpty(session: Session): void {
    this.outbox.add(session, EMPTY_MESSAGE)
  }

  close(session: Session, reason: CloseName, detail = '', connection = 0): void {
    if (session.state === 'closed') return
    // The frames of this turn go before the ERROR frame.
    this.outbox.flushOne(session)
    // The outbox closes a socket that drops a message: then the session has ended already.
    if (!this.endSession(session, reason)) return
    closeSocket(session.socket, reason, detail, connection)
  }

  /** The connection is gone, or will be within this turn. Returns false if the session had ended before. */
  endSession(session: Session, reason: CloseName | 'network'): boolean {
    const { registry, metrics, tombstones, onEnded } = this.parts
    if (session.state === 'closed') return false
    session.end()
    metrics.closed(reason)
    onEnded(session)
    // If another session took its place, the record is, or will be, that session's: this one must not end it.
    const wasRegistered = registry.remove(session)
    if (wasRegistered && session.revision > 0 && reason !== 'replaced') tombstones.add(session)
    return true
  }

  report(session: Session, router: string, id: bigint, report: ReportCode): void {
    this.parts.metrics.report(report)
    this.parts.uplink.report(router, id, session.device, report, this.parts.turns.now.ms)
  }

  reportNotHere(router: string, id: bigint, device: string): void {
    this.parts.metrics.report(Report.NOT_HERE)
    this.parts.uplink.report(router, id, device, Report.NOT_HERE, this.parts.turns.now.ms)
  }

  settle(session: Session, { message, sequence }: QueueRef): boolean {
    const { id, project, application } = message
    return this.parts.settlements.add({
      id,
      device: session.device,
      project,
      application,
      queueSequence: sequence,
      atMs: this.parts.turns.now.ms,
    })
  }

  isSettling(_device: string, id: bigint): boolean {
    return this.parts.settlements.has(id)
  }

  readQueue(session: Session): void {
    const { turns, catchUps, onError } = this.parts
    catchUps.read(session.device).then(
      (queued) => this.turn(session, 'queue read', () => session.queueRead(queued, turns.now)),
      (error: unknown) => {
        onError('queue read', error)
        session.queueReadFailed()
      },
    )
  }

  request(session: Session, requestNumber: number, request: DeviceRequest): void {
    const { uplink, onSubscriptionsChanged, leaveGroups } = this.parts
    const ask = async (): Promise<ServerFrame> => {
      const answer = await uplink.request(requestNumber, request)
      const mustLeave = answer.type === 'DONE' && request.kind !== 'subscribe'
      if (!mustLeave || (await leaveGroups(session))) return answer
      return errorFrame('unavailable', 'the change is stored, and the worker cannot read it now', requestNumber)
    }
    void ask().then((answer) => {
      // After DONE no message of a group comes that the device has left.
      this.turn(session, 'reply', () => session.replied(answer))
      const isChanged = 'subscriptions' in answer && answer.subscriptions !== session.subscriptions
      if (isChanged && session.state !== 'closed') onSubscriptionsChanged(session)
    })
  }
}

/** Sends an ERROR frame if it helps the device, then closes the socket. */
export function closeSocket(socket: Socket, reason: CloseName, detail = '', connection = 0): void {
  if (!SILENT.has(reason)) {
    socket.send(encodeFrame(errorFrame(reason, detail, 0, RETRY_AFTER_MS[reason] ?? 0, connection)))
  }
  socket.end(Close[reason].code, reason)
}
