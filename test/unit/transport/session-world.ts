/** A session whose surroundings the test controls: a queue, a router and a device, stepped one by one. */
import type { CloseName } from '../../../protocol/close-codes.js'
import { type DeviceRequest, Report, type ReportCode } from '../../../protocol/envelope.js'
import type { ServerFrame, WelcomeFrame } from '../../../protocol/frame-types.js'
import type { QueueEntry } from '../../../src/store/queue.js'
import type { QueueRef } from '../../../src/transport/session/in-flight.js'
import type { SessionSink } from '../../../src/transport/session/session.js'
import { Session } from '../../../src/transport/session/session.js'
import type { Socket } from '../../../src/transport/socket/socket.js'

export const ROUTER = 'router'
export const DEVICE = 'dev_1'

export const welcome: WelcomeFrame = {
  type: 'WELCOME',
  serverTimeMs: 0,
  keepaliveSeconds: 120,
  limits: { frameBytesMax: 16_384, window: 3, registrationsMax: 1, topicsMax: 1 },
  subscriptions: 1,
  ticket: new Uint8Array(),
  ticketSeconds: 0,
}

const noSocket: Socket = {
  address: '',
  owner: null,
  send: () => 'sent',
  buffered: () => 0,
  end: () => {},
  subscribe: () => {},
  unsubscribe: () => {},
  topics: () => [],
}

export class SessionWorld implements SessionSink {
  readonly limits = { window: 3, held: 2, requests: 2, framesPerSecond: 10 }
  readonly now = { ms: 1_000, steadyMs: 1_000, tick: 1 }
  readonly session: Session

  /** The queue of the device, oldest record first. A message can have two records. */
  queued: { id: bigint; sequence: number; dropped: number; expiresAtMs: number }[] = []
  private sequence = 0
  /** Reads without an answer, oldest first: the records that each saw when it began. */
  reads: QueueEntry[][] = []

  readonly sent: (bigint | ServerFrame['type'] | 'empty')[] = []
  readonly frames: ServerFrame[] = []
  readonly reports: { id: bigint; report: ReportCode }[] = []
  readonly settles: { id: bigint; sequence: number }[] = []
  readonly settling = new Set<bigint>()
  readonly requests: number[] = []
  hasRoomToSettle = true
  closedWith: CloseName | null = null

  constructor() {
    this.session = new Session(noSocket, DEVICE, 1, null, this, this.now.tick)
  }

  // ---- SessionSink: the effects of the session

  forward(_session: Session, frame: Uint8Array): void {
    this.sent.push(idOf(frame))
  }

  send(_session: Session, frame: ServerFrame): void {
    this.frames.push(frame)
    this.sent.push(frame.type)
  }

  answerEmpty(): void {
    this.sent.push('empty')
  }

  close(session: Session, reason: CloseName): void {
    this.closedWith = reason
    session.end()
  }

  report(_session: Session, _router: string, id: bigint, report: ReportCode): void {
    this.reports.push({ id, report })
  }

  settle(_session: Session, { message, sequence }: QueueRef): boolean {
    if (!this.hasRoomToSettle) return false
    this.settles.push({ id: message.id, sequence })
    this.settling.add(message.id)
    return true
  }

  isSettling(_device: string, id: bigint): boolean {
    return this.settling.has(id)
  }

  readQueue(): void {
    this.reads.push(this.entries())
  }

  request(_session: Session, request: number, _deviceRequest: DeviceRequest): void {
    this.requests.push(request)
  }

  // ---- inputs of the session

  /** Completes the handshake, up to WELCOME. */
  greet(): void {
    this.session.claimed(5)
    this.session.welcome(welcome, this.entries(), this.now)
  }

  enqueue(id: bigint, { dropped = 0, expiresAtMs = 1e15 } = {}): void {
    this.queued.push({ id, sequence: ++this.sequence, dropped, expiresAtMs })
  }

  /** Answers the oldest read with what it saw. */
  answerRead(): void {
    const entries = this.reads.shift()
    if (entries) this.session.queueRead(entries, this.now)
  }

  deliver(id: bigint, expiresAtMs = 1e15): void {
    this.session.deliver({ id, device: DEVICE, expiresAtMs, frame: frameOf(id) }, expiresAtMs, ROUTER, this.now)
  }

  ack(...ids: bigint[]): void {
    this.session.frame({ type: 'ACK', ids }, this.now)
  }

  /** The core deletes the settled records. */
  carryOut(): void {
    const done = new Set(this.settles.map(({ sequence }) => sequence))
    this.queued = this.queued.filter(({ sequence }) => !done.has(sequence))
    // A read in progress may still show deleted records.
    if (this.reads.length === 0) this.settling.clear()
  }

  notified(): bigint[] {
    return this.sent.filter((item) => typeof item === 'bigint')
  }

  reportsOf(id: bigint): ReportCode[] {
    return this.reports.filter((item) => item.id === id).map(({ report }) => report)
  }

  entries(): QueueEntry[] {
    return this.queued.map(({ id, sequence, dropped, expiresAtMs }) => ({
      sequence,
      record: {
        ...{ previous: 0, depth: 1, queue: 1n, dropped, evicted: [], queuedAtMs: 0, older: [] },
        message: {
          ...{ id, parent: id, project: 'p', application: 'a', device: DEVICE, registration: 1, collapseKey: '' },
          ...{ acceptedAtMs: 0, expiresAtMs, frame: frameOf(id) },
        },
      },
    }))
  }
}

export const refusals: readonly ReportCode[] = [Report.WINDOW_FULL, Report.CLOSED, Report.NOT_HERE]

function frameOf(id: bigint): Uint8Array {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(id)
  return bytes
}

function idOf(frame: Uint8Array): bigint {
  return Buffer.from(frame).readBigUInt64LE()
}
