/** What sessions ask for, done: the SessionSink of a worker. */
import { Close, type CloseName } from '../../../protocol/close-codes.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { type DeviceRequest, Report, type ReportCode } from '../../../protocol/envelope.js'
import { EMPTY_MESSAGE } from '../../../protocol/frame.js'
import type { ServerFrame } from '../../../protocol/frame-types.js'
import type { WorkerMetrics } from '../metrics.js'
import type { QueueRef } from '../session/queue-ref.js'
import type { Registry } from '../session/registry.js'
import { errorFrame } from '../session/requests.js'
import type { Session, SessionLimits, SessionSink } from '../session/session.js'
import type { Tombstones } from '../session/tombstones.js'
import type { Socket } from '../socket/socket.js'
import type { Turns } from '../turns.js'
import type { CatchUps } from './catch-up.js'
import { Outbox } from './outbox.js'
import type { Uplink } from './uplink.js'

export interface EffectsParts {
  turns: Turns
  registry: Registry
  catchUps: CatchUps
  uplink: Uplink
  tombstones: Tombstones
  metrics: WorkerMetrics
  onError: (what: string, error: unknown) => void
  /** The core says that its subscriptions are of another version. */
  refresh: (session: Session) => void
  /** Its groups need no more care. */
  left: (session: Session) => void
}

/** Closes after which an ERROR frame would say nothing, or not arrive. */
const SILENT: ReadonlySet<CloseName> = new Set(['bye', 'going_away', 'too_slow'])

/** When a device that we could not serve may come again. */
const RETRY_AFTER_MS: Partial<Record<CloseName, number>> = {
  overloaded: 2_000,
  // Not doubled with each: where many are late, it is the machine, or the network.
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

  /** A turn for one session, which pays for our fault: better a close than a session that waits for ever. */
  turn(session: Session, what: string, work: () => void): void {
    this.parts.turns.run(what, work, () => this.close(session, 'internal'))
  }

  forward(session: Session, frame: Uint8Array): void {
    this.parts.metrics.notified++
    this.outbox.add(session, frame)
  }

  /** A group message for one session alone, which catches up. */
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
    // What it was sent in this turn goes before the ERROR.
    this.outbox.flushOne(session)
    if (!this.left(session, reason)) return
    closeSocket(session.socket, reason, detail, connection)
  }

  /** The connection is gone, or will be in this turn. False where that was known. */
  left(session: Session, reason: CloseName | 'network'): boolean {
    const { registry, metrics, tombstones, left } = this.parts
    if (session.state === 'closed') return false
    session.end()
    metrics.closed(reason)
    left(session)
    // Where another session took its place, that one's record stands or will: no tombstone has a right to it.
    const wasRegistered = registry.remove(session)
    if (wasRegistered && session.revision > 0 && reason !== 'replaced') tombstones.ended(session)
    return true
  }

  report(session: Session, router: string, id: bigint, report: ReportCode): void {
    this.parts.metrics.report(report)
    this.parts.uplink.report(router, id, session.device, report, this.parts.turns.now.ms)
  }

  notHere(router: string, id: bigint, device: string): void {
    this.parts.metrics.report(Report.NOT_HERE)
    this.parts.uplink.report(router, id, device, Report.NOT_HERE, this.parts.turns.now.ms)
  }

  settle(session: Session, { message, sequence }: QueueRef): boolean {
    const { id, project, application } = message
    const { ms } = this.parts.turns.now
    return this.parts.uplink.settle({
      id,
      device: session.device,
      project,
      application,
      queueSequence: sequence,
      atMs: ms,
    })
  }

  isSettling(_device: string, id: bigint): boolean {
    return this.parts.uplink.isSettling(id)
  }

  readQueue(session: Session): void {
    const { turns, catchUps, onError } = this.parts
    catchUps.read(session.device).then(
      (queued) => this.turn(session, 'queued read', () => session.queueRead(queued, turns.now)),
      (error: unknown) => {
        onError('queued read', error)
        session.queueReadFailed()
      },
    )
  }

  request(session: Session, request: number, what: DeviceRequest): void {
    const { uplink, refresh } = this.parts
    void uplink.request(request, what).then((answer) => {
      this.turn(session, 'reply', () => session.replied(answer))
      const isChanged = 'subscriptions' in answer && answer.subscriptions !== session.subscriptions
      if (isChanged && session.state !== 'closed') refresh(session)
    })
  }
}

/** ERROR where it helps, then the close frame. */
export function closeSocket(socket: Socket, reason: CloseName, detail = '', connection = 0): void {
  if (!SILENT.has(reason)) {
    socket.send(encodeFrame(errorFrame(reason, detail, 0, RETRY_AFTER_MS[reason] ?? 0, connection)))
  }
  socket.end(Close[reason].code, reason)
}
