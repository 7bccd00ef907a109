/** The position at which each group of a device starts, computed from the cursor in its HELLO. */
import type { Cursor, GapReason } from '../../../protocol/frame-types.js'
import type { Group } from '../../store/devices.js'

export interface Starts {
  /** For each subject: the device needs the messages after this sequence. */
  after: Map<string, number>
  /** The GAP that the device has to get, because messages may be missing; null: none. */
  gap: GapReason | null
}

/**
 * - A group that the cursor covers starts at the cursor.
 * - A group that was added after the cursor's version of the subscriptions starts at its own `since`, because the
 *   cursor moved on without it.
 * - A cursor of another log says nothing about this log: the device needs all of this log. A `since` may be of the
 *   other log too, so it counts only if this log has come that far.
 */
export function startsOf(
  groups: readonly Group[],
  cursor: Cursor | null,
  log: { incarnation: bigint; last: number },
): Starts {
  const isOther = cursor !== null && (cursor.incarnation !== log.incarnation || cursor.sequence > log.last)
  const after = new Map<string, number>()
  for (const { subject, since, addedVersion } of groups) {
    const isCovered = cursor !== null && addedVersion <= cursor.subscriptions
    if (isCovered) after.set(subject, isOther ? 0 : cursor.sequence)
    else after.set(subject, since > log.last ? 0 : since)
  }
  return { after, gap: isOther && groups.length > 0 ? 'log_reset' : null }
}
