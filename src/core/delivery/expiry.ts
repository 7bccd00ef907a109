/** When a message is over: at its expiry, or, with ttl 0s, when the device is not there now. Pure. */
import type { StoredMessage } from '../../../protocol/envelope.js'
import type { OnlyNowReason } from '../domain/statuses.js'
import type { Target } from './route/inflight.js'

/** ttl 0s: only for a device that is connected now; never queued. */
export const isOnlyNow = (message: StoredMessage) => message.expiresAtMs <= message.acceptedAtMs

/** "Now" is not over while the message is on its way; clocks of core processes may differ by so much. */
const ON_ITS_WAY_MS = 30_000

export const isExpired = (message: StoredMessage, nowMs: number) =>
  isOnlyNow(message) ? message.acceptedAtMs + ON_ITS_WAY_MS <= nowMs : message.expiresAtMs <= nowMs

export const onlyNowReason = (target: Target): OnlyNowReason =>
  target.session || target.redelivered ? 'not_acknowledged' : 'not_connected'
