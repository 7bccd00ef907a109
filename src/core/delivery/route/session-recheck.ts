/**
 * The session recheck of an enqueue: after the append is confirmed, is there a session, and does its worker know?
 *
 * Invariant: either this check sees the session, or the session was written after the append was confirmed. In the second
 * case, the read of QUEUE that follows every session write sees the record. So the check must be authoritative and must
 * come after the append, and an error means "unknown" and never "offline".
 */
import { decodeControlReply, encodeControlRequest } from '../../../../protocol/envelope.js'
import { controlAnswers, controlSubject } from '../../../../protocol/subjects.js'
import { BrokerError, type Bus } from '../../../nats/broker.js'
import type { SessionEntry } from '../../../store/sessions.js'
import { sameSession } from './session-cache.js'

export interface SessionLookup {
  lookup(device: string, options: { authoritative: boolean }): Promise<SessionEntry | null>
}

export interface Liveness {
  isDead(instance: string, worker: string): boolean
}

/** A device that moves between workers more often than this is checked again after a redelivery. */
const MOVES_MAX = 4

export class SessionRecheck {
  constructor(
    private readonly bus: Bus,
    private readonly sessions: SessionLookup,
    private readonly liveness: Liveness,
    private readonly timeoutMs: number,
  ) {}

  /** True: every worker that has the device, now or later, reads its queue. False: unknown, do not acknowledge. Never rejects. */
  async isSeen(device: string): Promise<boolean> {
    let denied: SessionEntry | null = null
    try {
      for (let moves = 0; moves < MOVES_MAX; moves++) {
        const session = await this.sessions.lookup(device, { authoritative: true })
        if (session === null || !session.live) return true
        // The worker denies the session and no other worker has it, so its socket is closed: a worker knows a socket before
        // it writes the session. The device returns with a session write.
        if (denied && sameSession(denied, session)) return true
        const answer = await this.ask(device, session)
        if (answer === 'unknown') return false
        if (answer !== 'not_here') return true
        denied = session
      }
      return false
    } catch (error) {
      if (error instanceof BrokerError) return false
      throw error
    }
  }

  private async ask(device: string, { instance, worker }: SessionEntry) {
    try {
      const request = encodeControlRequest({ kind: 'catch_up', device })
      const subject = controlSubject(instance, worker)
      const options = { timeoutMs: this.timeoutMs, answersUnder: controlAnswers(instance) }
      return decodeControlReply(await this.bus.request(subject, request, options))
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      if (error.code === 'no_responders') return 'dead'
      // The worker is asked first, because a watch notices late that it is back. The lease only explains its silence.
      return error.code === 'timeout' && this.liveness.isDead(instance, worker) ? 'dead' : 'unknown'
    }
  }
}
