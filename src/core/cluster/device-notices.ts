/**
 * Notifies the worker of a device that the device's record was changed by another component. The live session reads the
 * record again; a session that is written after the change reads the changed record anyway.
 */
import { decodeControlReply, encodeControlRequest } from '../../../protocol/envelope.js'
import { Bucket, controlAnswers, controlSubject } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { type Broker, BrokerError } from '../../nats/broker.js'
import { type SessionEntry, SessionTable } from '../../store/sessions.js'

/** After this many attempts, it rejects: the device moves too fast or its worker is silent. The caller repeats the change. */
const ATTEMPTS_MAX = 4
const TIMEOUT_MS = 2_000

export class DeviceNotices {
  private readonly sessions: SessionTable

  constructor(
    private readonly broker: Broker,
    clock: Clock,
  ) {
    this.sessions = new SessionTable(broker.table(Bucket.SESSIONS), clock)
  }

  /**
   * Call it after the change is stored. Resolves when the worker has marked the session, or if there is none. Rejects with
   * BrokerError if that is unknown. The change is stored all the same, and the device sees it at its next connect.
   */
  async changed(device: string): Promise<void> {
    let denied: SessionEntry | null = null
    for (let attempt = 1; ; attempt++) {
      const session = await this.sessions.lookup(device, { authoritative: true })
      if (session === null || !session.live) return
      // The worker denied the session and no other worker has one. The device returns with a session write.
      if (denied && denied.instance === session.instance && denied.worker === session.worker) return
      try {
        if ((await this.notify(device, session)) === 'here') return
        denied = session
      } catch (error) {
        // A worker that is gone has no sessions.
        if (error instanceof BrokerError && error.code === 'no_responders') return
        if (attempt === ATTEMPTS_MAX) throw error
      }
      if (attempt === ATTEMPTS_MAX)
        throw new BrokerError('unavailable', `device ${device} moves between workers too fast`)
    }
  }

  /** Asks the worker to end the session, so that the device reconnects. The request is lost if the worker has crashed. */
  close(device: string, { instance, worker, connection }: SessionEntry): void {
    const close = { kind: 'close', device, reason: 'going_away', belowConnection: connection + 1 } as const
    this.broker.bus.publish(controlSubject(instance, worker), encodeControlRequest(close))
  }

  private async notify(device: string, { instance, worker }: SessionEntry): Promise<'here' | 'not_here'> {
    const request = encodeControlRequest({ kind: 'refresh', device })
    const subject = controlSubject(instance, worker)
    const options = { timeoutMs: TIMEOUT_MS, answersUnder: controlAnswers(instance) }
    return decodeControlReply(await this.broker.bus.request(subject, request, options))
  }
}
