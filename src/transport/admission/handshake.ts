/**
 * From a HELLO to a session:
 *
 *   believe -> not revoked -> newer than what is here -> room -> registered -> written -> read -> WELCOME
 *
 * The worker knows the socket as the device's before it writes the session, so that "not here" is a safe answer; and it
 * reads QUEUE only after the write is confirmed, so that of a router that enqueues and a device that connects, one
 * always sees the other.
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
import type { Belief, Credentials } from './credentials.js'
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
  onError: (what: string, error: unknown) => void
}

type Believed = Belief & { ok: true }

export class Handshake {
  private running = 0

  constructor(private readonly parts: HandshakeParts) {}

  /** HELLOs without their WELCOME. */
  get underWay(): number {
    return this.running
  }

  begin(greeting: Greeting, hello: HelloFrame): void {
    const { credentials, turns, registry, effects } = this.parts
    const { socket } = greeting
    const belief = credentials.judge(hello.credential, turns.now.ms)
    if (!belief.ok) {
      this.refuse(socket, belief.reason)
      return
    }
    const refusal = this.refusalOf(belief.device, hello)
    if (refusal) {
      this.refuse(socket, refusal.reason, refusal.connection)
      return
    }
    const before = registry.get(belief.device)
    if (before) effects.close(before, 'replaced')
    const session = new Session(socket, belief.device, hello.connection, hello.gap, effects, turns.now.tick)
    socket.owner = session
    registry.add(session)
    void this.introduce(session, hello, belief)
  }

  private refuse(socket: Socket, reason: CloseName, connection?: number): void {
    this.parts.metrics.handshake(reason)
    this.parts.metrics.closed(reason)
    closeSocket(socket, reason, '', connection)
  }

  private refusalOf(device: string, hello: HelloFrame): { reason: CloseName; connection?: number } | null {
    const { revocations, registry, settings, tombstones } = this.parts
    if (revocations.has(device)) return { reason: 'revoked' }
    // While an end waits, its record still looks like a session of this worker, which may write the same number again.
    const connection = registry.get(device)?.connection ?? tombstones.connectionOf(device)
    if (connection !== null && connection >= hello.connection) return { reason: 'stale_connection', connection }
    return this.running >= settings.handshakesInFlightMax ? { reason: 'overloaded' } : null
  }

  private async introduce(session: Session, hello: HelloFrame, belief: Believed): Promise<void> {
    const { turns, effects, catchUps, devices, groups, metrics, throughput, onError } = this.parts
    this.running++
    const begun = throughput.begin(turns.now.ms)
    try {
      const claim = await this.claim(session, belief)
      if (!claim) return
      const [queued, record] = await Promise.all([
        catchUps.read(session.device),
        devices.read(session.device, { authoritative: true }),
      ])
      effects.turn(session, 'welcome', () => {
        session.welcome(this.welcomeOf(session, belief, record.version), queued, turns.now)
        if (session.state === 'closed') return
        metrics.handshake('welcomed')
        throughput.finish(begun, turns.now.ms)
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

  /** Writes the session; null where it is not to go on. */
  private async claim(session: Session, { ticket }: Believed): Promise<ClaimResult | null> {
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
    // Where the ticket's record was replaced unread, the session of the ticket was still in the table.
    const before = claim.previous ?? known
    const isElsewhere = before && (before.instance !== owner.instance || before.worker !== owner.worker)
    if (isElsewhere && (claim.previous?.live ?? true)) this.tell(before, session)
    if (session.state !== 'closed') return claim
    // It left while its record was being written: nobody else will end that record.
    tombstones.add(session)
    return null
  }

  /** Only saves the old worker, and routers that remember it, some time: an audit would find out as well. */
  private tell(before: { instance: string; worker: string }, { device, connection }: Session): void {
    const close = encodeControlRequest({ kind: 'close', device, reason: 'replaced', belowConnection: connection })
    this.parts.bus.publish(controlSubject(before.instance, before.worker), close)
  }

  private welcomeOf(session: Session, belief: Believed, subscriptions: number): WelcomeFrame {
    const { settings, owner, credentials, turns } = this.parts
    const nowMs = turns.now.ms
    const expiresAtMs = Math.min(nowMs + settings.ticketSeconds * 1000, belief.tokenExpiresAtMs)
    const { device, connection, revision } = session
    const { tokenExpiresAtMs } = belief
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
