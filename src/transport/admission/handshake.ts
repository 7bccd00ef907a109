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
import { encodeControlRequest, encodeMovedNotice } from '../../../protocol/envelope.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { HelloFrame, WelcomeFrame } from '../../../protocol/frame-types.js'
import { controlSubject, MOVED_SUBJECT } from '../../../protocol/subjects.js'
import { TOKEN_SKEW_MS } from '../../device-token.js'
import type { Bus } from '../../nats/broker.js'
import type { DeviceStore } from '../../store/devices.js'
import { type ClaimResult, refusalOf, type SessionTable } from '../../store/sessions.js'
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
    const refusal = this.refusalOf(verdict, hello)
    if (refusal) {
      this.refuse(socket, refusal.reason, refusal.connection)
      return
    }
    const previous = registry.get(verdict.device)
    if (previous) effects.close(previous, 'replaced')
    const session = new Session(socket, verdict.device, hello.connection, hello.gap, effects, turns.now.tick)
    session.tokenIssuedAtMs = verdict.tokenIssuedAtMs
    session.tokenEndsAtMs = verdict.tokenExpiresAtMs + TOKEN_SKEW_MS
    session.fleet = verdict.fleet
    socket.owner = session
    registry.add(session)
    void this.complete(session, hello, verdict)
  }

  private refuse(socket: Socket, reason: CloseName, connection?: number): void {
    this.parts.metrics.handshake(reason)
    this.parts.metrics.closed(reason)
    closeSocket(socket, reason, '', connection)
  }

  private refusalOf(
    verified: VerifiedCredential,
    { connection }: HelloFrame,
  ): { reason: CloseName; connection?: number } | null {
    const { revocations, registry, settings, tombstones } = this.parts
    const { device, fleet, ticket, tokenIssuedAtMs } = verified
    if (revocations.has(device)) return { reason: 'revoked' }
    if (revocations.isCutOff(fleet, tokenIssuedAtMs)) return { reason: 'bad_token' }
    // The token says what a ticket of version 2 does not.
    if (ticket && fleet === '' && revocations.hasCutOffs) return { reason: 'bad_ticket' }
    // While a tombstone waits, the table still shows a session of this worker, which could be claimed again with its
    // number.
    const previous = registry.get(device) ?? tombstones.fenceOf(device)
    const reason = previous && refusalOf({ connection, tokenIssuedAtMs }, previous)
    if (reason) return { reason, connection: previous.connection }
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
        session.registered(record)
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
    const { device, connection, tokenIssuedAtMs } = session
    const fence = { connection, tokenIssuedAtMs }
    const known = ticket && refusalOf(fence, ticket) === null ? ticket : null
    const claim = await sessions.claim(device, { ...owner, ...fence }, known?.revision)
    effects.turn(session, 'claim', () => {
      if (!claim.ok) session.claimRefused(claim.reason, claim.connection)
      else session.claimed(claim.revision)
    })
    if (!claim.ok) {
      metrics.handshake(claim.reason)
      return null
    }
    tombstones.dropOlder(device, fence)
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
   * session. A transport reaches no other instance, so a core passes the notice on.
   */
  private closePrevious(previous: { instance: string; worker: string; connection: number }, session: Session): void {
    const { bus, owner } = this.parts
    const { device } = session
    const { instance, worker } = previous
    // After a renewal the previous session may have the greater number.
    const belowConnection = Math.max(session.connection, previous.connection + 1)
    if (instance === owner.instance) {
      const close = encodeControlRequest({ kind: 'close', device, reason: 'replaced', belowConnection })
      bus.publish(controlSubject(instance, worker), close)
    } else bus.publish(MOVED_SUBJECT, encodeMovedNotice({ device, instance, worker, belowConnection }))
  }

  private welcomeOf(session: Session, credential: VerifiedCredential, subscriptions: number): WelcomeFrame {
    const { settings, owner, credentials, turns } = this.parts
    const nowMs = turns.now.ms
    const expiresAtMs = Math.min(nowMs + settings.ticketSeconds * 1000, credential.tokenExpiresAtMs)
    const { device, connection, revision } = session
    const { tokenExpiresAtMs, tokenIssuedAtMs, fleet } = credential
    const token = { tokenExpiresAtMs, tokenIssuedAtMs, fleet }
    const ticket = { ...owner, device, connection, revision, subscriptions, expiresAtMs, ...token }
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
