/** When a message is over: at its expiry or, with ttl 0s, as soon as its device turns out to be absent. Pure. */
import type { StoredMessage } from '../../../protocol/envelope.js'
import type { OnlyNowReason } from '../domain/statuses.js'
import type { Target } from './route/inflight.js'

/** True for ttl 0s: only for a device that is connected now, and never queued. */
export const isOnlyNow = (message: StoredMessage) => message.expiresAtMs <= message.acceptedAtMs

/** A message with ttl 0s may be this long on its way. The clocks of cores may differ by as much. */
const ON_ITS_WAY_MS = 30_000

export const isExpired = (message: StoredMessage, nowMs: number) =>
  isOnlyNow(message) ? message.acceptedAtMs + ON_ITS_WAY_MS <= nowMs : message.expiresAtMs <= nowMs

export const onlyNowReason = (target: Target): OnlyNowReason =>
  target.session || target.redelivered ? 'not_acknowledged' : 'not_connected'
