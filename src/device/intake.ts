/** What a message or a GAP does to the state and tells the app: duplicates, ended registrations, cursor, counts. Pure. */
import type { GapFrame, NotifyFrame, NotifyGroupFrame } from '../../protocol/frame-types.js'
import type { ConnectionEvent } from './events.js'
import { type Change, type DeviceState, newInGap, type StoredNotification } from './state.js'

export interface Taken {
  change: Change | null
  event: ConnectionEvent | null
}

const NOTHING: Taken = { change: null, event: null }

export function takeNotify(state: DeviceState, frame: NotifyFrame, forgetAtMs: number): Taken {
  if (state.knows(frame.id)) return NOTHING
  // Nobody is there to show it to; the sender learns that it arrived.
  if (state.hasEnded(frame.registration)) return seen(frame.id, forgetAtMs, 0)
  return kept({ ...content(frame), registration: frame.registration, group: null }, forgetAtMs, 0)
}

/** `frozen`: the log is another one than the cursor's, so the cursor stays where it is. */
export function takeGroup(state: DeviceState, frame: NotifyGroupFrame, forgetAtMs: number, frozen: boolean): Taken {
  const cursorSequence = frozen ? 0 : frame.sequence
  // A target of a later version means nothing to this one, but the log has been read up to here.
  if (!frame.target || state.knows(frame.id)) return seen(frame.id, forgetAtMs, cursorSequence)
  const group = { ...frame.target, project: frame.project, sequence: frame.sequence }
  return kept({ ...content(frame), registration: 0, group }, forgetAtMs, cursorSequence)
}

/** A queue's GAP counts from the queue's beginning: what was told before is not told again. */
export function takeGap(state: DeviceState, frame: GapFrame): Taken {
  const { count, reason, mark } = frame
  if (!mark) return { change: null, event: { kind: 'gap', count, reason } }
  const fresh = newInGap(state.gap, mark)
  if (fresh === 0) return NOTHING
  return { change: { kind: 'gap', mark }, event: { kind: 'gap', count: fresh, reason } }
}

function kept(notification: StoredNotification, forgetAtMs: number, cursorSequence: number): Taken {
  return {
    change: { kind: 'message', message: notification, forgetAtMs, cursorSequence },
    event: { kind: 'notification', notification },
  }
}

function seen(id: bigint, forgetAtMs: number, cursorSequence: number): Taken {
  return { change: { kind: 'seen', id, forgetAtMs, cursorSequence }, event: null }
}

function content(frame: NotifyFrame | NotifyGroupFrame): Omit<StoredNotification, 'registration' | 'group'> {
  const { id, expiresAtSeconds, priority, collapseKey, title, message, data } = frame
  return { id, expiresAtMs: expiresAtSeconds * 1_000, priority, collapseKey, title, message, data }
}
