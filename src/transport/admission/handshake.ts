/**
 * The handshake, from a HELLO to a session. Its steps:
 *
 *   credential verified -> not revoked -> newer than the present session -> room for a handshake
 *   -> added to the registry -> session record written -> queue and device record read -> WELCOME
 *
 * The order of three steps prevents loss. The session is in the registry before its record is written, so that a
 * worker which is asked about the device never answers NOT_HERE although the record names it. QUEUE is read only
 * after the write is confirmed. So if a router enqueues a message while the device connects, either the router finds
 * the session or this read finds the message.
 */
import type { CloseName } from '../../../protocol/close-codes.js'
import { encodeControlRequest } from '../../../protocol/envelope.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { HelloFrame, WelcomeFrame } from '../../../protocol/frame-types.js'
import { controlSubject } from '../../../protocol/subjects.js'
import type { Bus } from '../../nats/broker.js'
import type { DeviceStore } from '../../store/devices.js'
import type { ClaimResult, SessionTable } from '../../store/sessions.js'
import type { CatchUps } from '../delivery/catch-up.js'
import { closeSocket, type Effects } from '../delivery/effects.js'
import type { Groups } from '../groups/groups.js'
import type { WorkerMetrics } from '../metrics.js'
import type { Registry } from '../session/registry.js'
import { Session } from '../session/session.js'
import type { Tombstones } from '../session/tombstones.js'
import type { TransportSettings } from '../settings.js'
import type { Socket } from '../socket/socket.js'
import type { Turns } from '../turns.js'
import type { Credentials, CredentialVerdict } from './credentials.js'
import type { Greeting } from './greeting.js'
import type { Revocations } from './revocations.js'
import type { Throughput } from './throughput.js'

export interface HandshakeParts {
  settings: TransportSettings
  owner: { instance: string; worker: string }
  bus: Bus
  turns: Turns
  credentials: Credentials
  revocations: Revocations
  registry: Registry
  effects: Effects
  sessions: SessionTable
  tombstones: Tombstones
  catchUps: CatchUps
  devices: DeviceStore
  groups: Groups
  metrics: WorkerMetrics
  throughput: Throughput
  onError: (task: string, error: unknown) => void
}

type VerifiedCredential = CredentialVerdict & { ok: true }

export class Handshake {
  private running = 0

  constructor(private readonly parts: HandshakeParts) {}

  /** The number of connections between HELLO and WELCOME. */
  get underWay(): number {
    return this.running
  }

  begin(greeting: Greeting, hello: HelloFrame): void {
    const { credentials, turns, registry, effects } = this.parts
    const { socket } = greeting
    const verdict = credentials.verify(hello.credential, turns.now.ms)
    if (!verdict.ok) {
      this.refuse(socket, verdict.reason)
      return
    }
    const refusal = this.refusalOf(verdict.device, hello)
    if (refusal) {
      this.refuse(socket, refusal.reason, refusal.connection)
      return
    }
    const previous = registry.get(verdict.device)
    if (previous) effects.close(previous, 'replaced')
    const session = new Session(socket, verdict.device, hello.connection, hello.gap, effects, turns.now.tick)
    socket.owner = session
    registry.add(session)
    void this.complete(session, hello, verdict)
  }

  private refuse(socket: Socket, reason: CloseName, connection?: number): void {
    this.parts.metrics.handshake(reason)
    this.parts.metrics.closed(reason)
    closeSocket(socket, reason, '', connection)
  }

  private refusalOf(device: string, hello: HelloFrame): { reason: CloseName; connection?: number } | null {
    const { revocations, registry, settings, tombstones } = this.parts
    if (revocations.has(device)) return { reason: 'revoked' }
    // While a tombstone waits, the table still shows a session of this worker, which could be claimed again with its
    // number.
    const connection = registry.get(device)?.connection ?? tombstones.connectionOf(device)
    if (connection !== null && connection >= hello.connection) return { reason: 'stale_connection', connection }
    return this.running >= settings.handshakesInFlightMax ? { reason: 'overloaded' } : null
  }

  private async complete(session: Session, hello: HelloFrame, credential: VerifiedCredential): Promise<void> {
    const { turns, effects, catchUps, devices, groups, metrics, throughput, onError } = this.parts
    this.running++
    const start = throughput.begin(turns.now.ms)
    try {
      const claim = await this.claim(session, credential)
      if (!claim) return
      const [queued, record] = await Promise.all([
        catchUps.read(session.device),
        devices.read(session.device, { authoritative: true }),
      ])
      effects.turn(session, 'welcome', () => {
        session.welcome(this.welcomeOf(session, credential, record.version), queued, turns.now)
        if (session.state === 'closed') return
        metrics.handshake('welcomed')
        throughput.finish(start, turns.now.ms)
        groups.follow(session, record, hello.cursor)
      })
    } catch (error) {
      onError('handshake', error)
      metrics.handshake('unavailable')
      effects.turn(session, 'handshake', () => session.claimFailed())
    } finally {
      this.running--
    }
  }

  /** Writes the session record. Null if the handshake ends here: the table refused, or the connection is gone. */
  private async claim(session: Session, { ticket }: VerifiedCredential): Promise<ClaimResult | null> {
    const { sessions, owner, effects, tombstones, metrics } = this.parts
    const { device, connection } = session
    const known = ticket && connection > ticket.connection ? ticket : null
    const claim = await sessions.claim(device, { ...owner, connection }, known?.revision)
    effects.turn(session, 'claim', () => {
      if (!claim.ok) session.claimRefused(claim.connection)
      else session.claimed(claim.revision)
    })
    if (!claim.ok) {
      metrics.handshake('stale_connection')
      return null
    }
    tombstones.dropOlder(device, connection)
    // If the claim replaced the record without a read, that record was the session that the ticket names.
    const previous = claim.previous ?? known
    const isElsewhere = previous && (previous.instance !== owner.instance || previous.worker !== owner.worker)
    if (isElsewhere && (claim.previous?.live ?? true)) this.closePrevious(previous, session)
    if (session.state !== 'closed') return claim
    // The connection ended while its record was written. No other code ends that record.
    tombstones.add(session)
    return null
  }

  /**
   * Saves the previous worker, and routers with a cached session, some time. Without it an audit closes the old
   * session.
   */
  private closePrevious(previous: { instance: string; worker: string }, { device, connection }: Session): void {
    const close = encodeControlRequest({ kind: 'close', device, reason: 'replaced', belowConnection: connection })
    this.parts.bus.publish(controlSubject(previous.instance, previous.worker), close)
  }

  private welcomeOf(session: Session, credential: VerifiedCredential, subscriptions: number): WelcomeFrame {
    const { settings, owner, credentials, turns } = this.parts
    const nowMs = turns.now.ms
    const expiresAtMs = Math.min(nowMs + settings.ticketSeconds * 1000, credential.tokenExpiresAtMs)
    const { device, connection, revision } = session
    const { tokenExpiresAtMs } = credential
    const ticket = { ...owner, device, connection, revision, subscriptions, expiresAtMs, tokenExpiresAtMs }
    return {
      type: 'WELCOME',
      serverTimeMs: nowMs,
      keepaliveSeconds: Math.max(1, Math.round(settings.keepaliveMs / 1000)),
      limits: {
        frameBytesMax: DEVICE_FRAME_BYTES_MAX,
        window: settings.windowMax,
        registrationsMax: settings.registrationsMax,
        topicsMax: settings.topicsMax,
      },
      subscriptions,
      ticket: credentials.tickets.seal(ticket),
      ticketSeconds: Math.max(0, Math.floor((expiresAtMs - nowMs) / 1000)),
    }
  }
}
