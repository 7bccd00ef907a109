/**
 * What comes down to the app, and what it does to the state: duplicates, unknown targets, cursor, counts. It changes
 * state and tells only by way of the turn, so that nothing is acknowledged or shown before it is durable.
 */
import type { CaughtUpFrame, GapFrame, NotifyFrame, NotifyGroupFrame } from '../../../protocol/frame-types.js'
import { caughtUpCursor, type DeviceState, newInGap, type StoredNotification } from '../state/state.js'
import type { Turns } from '../turn.js'

export type IntakeFrame = NotifyFrame | NotifyGroupFrame | CaughtUpFrame | GapFrame

/** Clocks that differ from what is known by less are taken for equal. */
const CLOCK_STEP_MS = 100

export class Intake {
  /** Server's clock less ours. A server is slow or fast by some milliseconds each time, which is not worth a write. */
  set serverAheadMs(value: number) {
    if (Math.abs(value - this.state.serverAheadMs) < CLOCK_STEP_MS) return
    this.turns.change({ kind: 'clock', serverAheadMs: value })
  }

  get serverAheadMs(): number {
    return this.state.serverAheadMs
  }

  constructor(
    private readonly state: DeviceState,
    private readonly turns: Turns,
    private readonly settings: { inboxMax: number; seenKeepMs: number },
    /** A registration or a topic is being asked for. */
    private readonly isAsking: () => boolean,
  ) {}

  /** As many notifications wait for the app as may. */
  get isFull(): boolean {
    return this.state.inbox.size >= this.settings.inboxMax
  }

  /** Enough of them were handed over to read on. */
  get hasRoom(): boolean {
    return this.state.inbox.size <= this.settings.inboxMax / 2
  }

  take(localMs: number, frame: IntakeFrame): void {
    if (frame.type === 'NOTIFY') this.notify(localMs, frame)
    else if (frame.type === 'NOTIFY_GROUP') this.notifyGroup(localMs, frame)
    else if (frame.type === 'CAUGHT_UP') this.caughtUp(frame)
    else this.gap(frame)
  }

  private notify(localMs: number, frame: NotifyFrame): void {
    // Duplicates are acknowledged too, after whatever may still be under way of the first.
    this.turns.acknowledge(frame.id)
    if (this.state.knows(frame.id)) return
    const { registration } = frame
    // While an answer is to come it may tell this number: kept until then.
    if (this.state.registrations.has(registration) || this.isAsking())
      this.keep(localMs, { ...content(frame), registration, group: null }, 0)
    // Nobody is there to show it to; the sender learns that it arrived.
    else this.remember(localMs, frame, 0)
  }

  private notifyGroup(localMs: number, frame: NotifyGroupFrame): void {
    const { sequence, project, target } = frame
    // A target of a later version means nothing to this one, but the log has been read up to here.
    if (!target || this.state.knows(frame.id)) this.remember(localMs, frame, sequence)
    else this.keep(localMs, { ...content(frame), registration: 0, group: { ...target, project, sequence } }, sequence)
  }

  private caughtUp({ cursor }: CaughtUpFrame): void {
    if (cursor) this.turns.change({ kind: 'cursor', cursor: caughtUpCursor(this.state.cursor, cursor) })
    this.turns.tell({ kind: 'caughtUp', cursor })
  }

  /** A queue's GAP counts from the queue's beginning: what was told before is not told again. */
  private gap({ count, reason, mark }: GapFrame): void {
    // Sequences that follow are another log's: CAUGHT_UP brings the cursor for them.
    if (reason === 'log_reset') this.turns.change({ kind: 'cursor', cursor: null })
    const fresh = mark ? newInGap(this.state.gap, mark) : count
    if (mark && fresh === 0) return
    if (mark) this.turns.change({ kind: 'gap', mark })
    this.turns.tell({ kind: 'gap', count: fresh, reason })
  }

  private keep(localMs: number, notification: StoredNotification, cursorSequence: number): void {
    const forgetAtMs = this.forgetAt(localMs, notification.expiresAtMs)
    this.turns.change({ kind: 'message', message: notification, forgetAtMs, cursorSequence })
    this.turns.tell({ kind: 'notification', notification })
  }

  private remember(localMs: number, frame: NotifyFrame | NotifyGroupFrame, cursorSequence: number): void {
    const forgetAtMs = this.forgetAt(localMs, frame.expiresAtSeconds * 1_000)
    this.turns.change({ kind: 'seen', id: frame.id, forgetAtMs, cursorSequence })
  }

  private forgetAt(localMs: number, expiresAtMs: number): number {
    return Math.max(localMs, expiresAtMs - this.serverAheadMs) + this.settings.seenKeepMs
  }
}

function content(frame: NotifyFrame | NotifyGroupFrame): Omit<StoredNotification, 'registration' | 'group'> {
  const { id, expiresAtSeconds, priority, collapseKey, title, message, data } = frame
  return { id, expiresAtMs: expiresAtSeconds * 1_000, priority, collapseKey, title, message, data }
}
