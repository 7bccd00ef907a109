/**
 * Compares the sessions of this worker with the session table. A session without a live record is claimed again; a
 * session whose device has another session is closed. After each comparison that leaves the session in place QUEUE is
 * read: while this worker was cut off, routers may have taken it for dead and enqueued messages without asking it.
 *
 * The audit visits all sessions slowly all the time, so that no missed message stays missed, and all sessions at a
 * higher pace after a lapse of the lease or of the connection to NATS. A session whose comparison failed is compared
 * again in the next slice: a store that has just returned answers slowly, and a message that was enqueued during the
 * lapse must not wait for the slow round.
 */
import type { Clock } from '../../clock.js'
import type { SessionEntry, SessionTable } from '../../store/sessions.js'
import type { Effects } from '../delivery/effects.js'
import type { Groups } from '../groups/groups.js'
import { Limiter } from '../limiter.js'
import type { WorkerMetrics } from '../metrics.js'
import type { Registry, Rounds } from '../session/registry.js'
import type { Session } from '../session/session.js'

const SLICE_MS = 1_000
const IN_FLIGHT_MAX = 64

export interface AuditParts {
  clock: Clock
  registry: Registry
  sessions: SessionTable
  effects: Effects
  groups: Groups
  metrics: WorkerMetrics
  owner: { instance: string; worker: string }
  onError: (task: string, error: unknown) => void
}

export class Audit {
  private readonly limiter = new Limiter(IN_FLIGHT_MAX)
  /** Sessions to compare first: all sessions after a lapse, and those whose comparison failed. */
  private urgent: Session[] = []
  /** Comparisons under way. They count against the pace, so while reads time out, no more begin than end. */
  private underWay = 0
  private readonly rounds: Rounds
  private share = 0
  private cancel: (() => void) | null = null

  constructor(
    private readonly parts: AuditParts,
    private readonly pace: { auditMs: number; auditPerSecondMax: number },
  ) {
    this.rounds = parts.registry.rounds()
  }

  start(): void {
    this.cancel = this.parts.clock.after(SLICE_MS, () => {
      this.start()
      this.slice()
    })
  }

  stop(): void {
    this.cancel?.()
  }

  /** Compares every session: messages to this worker were lost, or may have been. */
  all(): void {
    this.urgent = this.parts.registry.all()
    this.slice()
  }

  private slice(): void {
    const { registry } = this.parts
    const room = Math.max(0, this.pace.auditPerSecondMax - this.underWay)
    const due = this.urgent.splice(0, room)
    if (due.length === 0 && room > 0) {
      // Fractions of a session add up over the slices, so that a small worker too visits each session once in auditMs.
      this.share = Math.min(registry.size, this.share + (registry.size * SLICE_MS) / this.pace.auditMs)
      const share = Math.floor(this.share)
      this.share -= share
      this.rounds.walk(share, (session) => due.push(session))
    }
    for (const session of due) {
      this.underWay++
      void this.limiter.run(() => this.compare(session)).finally(() => this.underWay--)
    }
  }

  private async compare(session: Session): Promise<void> {
    const { effects, sessions, groups, onError } = this.parts
    // Before WELCOME the handshake itself compares the session with the table.
    if (session.state !== 'behind' && session.state !== 'live') return
    try {
      const entry = await sessions.lookup(session.device, { authoritative: true })
      const isFound = entry !== null && this.isEntryOf(session, entry)
      if (!isFound && !(await this.claimAgain(session))) return
      effects.turn(session, 'audit', () => {
        if (session.state === 'closed') return
        session.readAgain()
        groups.refresh(session)
      })
    } catch (error) {
      this.urgent.push(session)
      onError('audit', error)
    }
  }

  /** Returns false if the device has another session: then this one is closed. */
  private async claimAgain(session: Session): Promise<boolean> {
    const { sessions, effects, metrics, owner } = this.parts
    metrics.auditRepairs++
    const { connection, tokenIssuedAtMs } = session
    const claim = await sessions.claim(session.device, { ...owner, connection, tokenIssuedAtMs })
    effects.turn(session, 'audit', () => {
      if (claim.ok) session.claimed(claim.revision)
      else effects.close(session, 'replaced')
    })
    return claim.ok
  }

  private isEntryOf(session: Session, entry: SessionEntry): boolean {
    const { instance, worker } = this.parts.owner
    const isOurs = entry.instance === instance && entry.worker === worker && entry.connection === session.connection
    return isOurs && entry.live
  }
}
