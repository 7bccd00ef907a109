import { digestOf } from '../../store/idempotency.js'
import type { SendMessage } from './validate-message.js'

/** Of the message as it was asked for: which of its targets are still good may differ between two tries. */
export function fingerprintOf(send: SendMessage): string {
  const { type, ttlMs, notBeforeMs, priority, collapseKey, title, message, data, targets } = send
  return digestOf([type, String(ttlMs), String(notBeforeMs), priority, collapseKey, title, message, data, ...targets])
}
