/** Where each group of a device begins, from the cursor in its HELLO. Pure. */
import type { Cursor, GapReason } from '../../../protocol/frame-types.js'
import type { Group } from '../../store/devices.js'

export interface Starts {
  /** For each subject: the device has, or is not owed, everything up to here. */
  from: Map<string, number>
  /** The device has to be told that messages may be missing. */
  gap: GapReason | null
}

/**
 * - A group that the cursor covers begins at the cursor.
 * - One that is newer than the cursor's version of the subscriptions begins at its own `since`: the cursor moved on
 *   without it.
 * - A cursor of another log says nothing about this one: everything in this one is new to the device. A `since` may
 *   be of the other log too; it only counts where this log has come that far.
 */
export function startsOf(
  groups: readonly Group[],
  cursor: Cursor | null,
  log: { incarnation: bigint; last: number },
): Starts {
  const isOther = cursor !== null && (cursor.incarnation !== log.incarnation || cursor.sequence > log.last)
  const from = new Map<string, number>()
  for (const { subject, since, addedVersion } of groups) {
    const covered = cursor !== null && addedVersion <= cursor.subscriptions
    if (covered) from.set(subject, isOther ? 0 : cursor.sequence)
    else from.set(subject, since > log.last ? 0 : since)
  }
  return { from, gap: isOther && groups.length > 0 ? 'log_reset' : null }
}
