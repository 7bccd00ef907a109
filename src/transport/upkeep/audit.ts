/**
 * Compares sessions with the table (design 3.5): absent, claim again; another's, close the socket; ours, as it should be.
 * After either of the first and last, QUEUE is read: while this worker was cut off, others may have taken it for
 * dead and queued without asking it.
 *
 * Slowly always, so that nothing missed stays missed; and all sessions, paced, after a lapse. A session that could not
 * be looked at stays due: a store that is just coming back answers late, and a message queued during the lapse must not
 * wait for the slow round.
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
  onError: (what: string, error: unknown) => void
}

export class Audit {
  private readonly limiter = new Limiter(IN_FLIGHT_MAX)
  /** Sessions that are still to be looked at: all, after a lapse, and those where a look failed. */
  private urgent: Session[] = []
  /** Looks begun and not ended: while reads run into their time-outs, no more begin than end. */
  private looking = 0
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

  /** Something was missed, or may have been: every session has to be looked at. */
  all(): void {
    this.urgent = this.parts.registry.all()
    this.slice()
  }

  private slice(): void {
    const { registry } = this.parts
    const room = Math.max(0, this.pace.auditPerSecondMax - this.looking)
    const due = this.urgent.splice(0, room)
    if (due.length === 0 && room > 0) {
      // Parts of a session add up, so that a small worker too looks at each once in auditMs, and not every second.
      this.share = Math.min(registry.size, this.share + (registry.size * SLICE_MS) / this.pace.auditMs)
      const share = Math.floor(this.share)
      this.share -= share
      this.rounds.walk(share, (session) => due.push(session))
    }
    for (const session of due) {
      this.looking++
      void this.limiter.run(() => this.look(session)).finally(() => this.looking--)
    }
  }

  private async look(session: Session): Promise<void> {
    const { effects, sessions, groups, onError } = this.parts
    // One that is being claimed is being compared right now.
    if (session.state !== 'behind' && session.state !== 'live') return
    try {
      const entry = await sessions.lookup(session.device, { authoritative: true })
      const isFound = entry !== null && this.isOf(session, entry)
      if (!isFound && !(await this.claim(session))) return
      effects.turn(session, 'audit', () => {
        if (session.state === 'closed') return
        session.readAgain()
        groups.refresh(session)
      })
    } catch (error) {
      // Unknown is neither right nor wrong: due again in the next slice.
      this.urgent.push(session)
      onError('audit', error)
    }
  }

  /** True where it is the session's again. */
  private async claim(session: Session): Promise<boolean> {
    const { sessions, effects, metrics, owner } = this.parts
    metrics.auditRepairs++
    const claim = await sessions.claim(session.device, { ...owner, connection: session.connection })
    effects.turn(session, 'audit', () => {
      if (claim.ok) session.claimed(claim.revision)
      else effects.close(session, 'replaced')
    })
    return claim.ok
  }

  private isOf(session: Session, entry: SessionEntry): boolean {
    const { instance, worker } = this.parts.owner
    const isOurs = entry.instance === instance && entry.worker === worker && entry.connection === session.connection
    return isOurs && entry.live
  }
}
