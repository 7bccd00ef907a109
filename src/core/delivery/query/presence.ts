/**
 * Whether a device is connected now. Its session record says so for `transport.tombstoneDelayMs` after it has left, and for
 * ever if its worker was killed. So the worker is asked.
 */
import { decodeControlReply, encodeControlRequest, presenceQuestion } from '../../../../protocol/envelope.js'
import { controlSubject } from '../../../../protocol/subjects.js'
import { BrokerError, type Bus } from '../../../nats/broker.js'
import type { SessionEntry } from '../../../store/sessions.js'
import { sameSession } from '../route/session-cache.js'
import type { SessionLookup } from '../route/session-recheck.js'

/** Longest wait for the worker. A worker that does not answer may be busy or frozen. */
const ANSWER_MS_MAX = 500

/**
 * Resolves with false if the device has left. True if it is connected, or if its worker does not answer.
 * @param session the live session of the device.
 */
export type IsConnected = (device: string, session: SessionEntry) => Promise<boolean>

export function createIsConnected(bus: Bus, sessions: SessionLookup): IsConnected {
  const isAt = async (device: string, { instance, worker }: SessionEntry): Promise<boolean> => {
    try {
      const question = encodeControlRequest(presenceQuestion(device))
      const answer = await bus.request(controlSubject(instance, worker), question, { timeoutMs: ANSWER_MS_MAX })
      return decodeControlReply(answer) === 'here'
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      return error.code !== 'no_responders'
    }
  }
  return async (device, session) => {
    if (await isAt(device, session)) return true
    // The device may have moved to another worker in the meantime.
    const now = await sessions.lookup(device, { authoritative: true })
    return now?.live === true && !sameSession(now, session) && isAt(device, now)
  }
}
