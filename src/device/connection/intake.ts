/**
 * Handles the frames that carry messages: drops duplicates and messages without a receiver, moves the cursor, and counts
 * gaps. It changes the state and emits events only through the turn, so nothing is acknowledged or handed over before it
 * is durable.
 */
import type { CaughtUpFrame, GapFrame, NotifyFrame, NotifyGroupFrame } from '../../../protocol/frame-types.js'
import { caughtUpCursor, type DeviceState, newInGap, type StoredNotification } from '../state/state.js'
import type { Turns } from '../turn.js'

export type IntakeFrame = NotifyFrame | NotifyGroupFrame | CaughtUpFrame | GapFrame

/** A change of the clock offset that is smaller is noise of the network, and not worth a write. */
const CLOCK_STEP_MS = 100

export class Intake {
  /** From LOG_RESET to CAUGHT_UP: the sequences of messages are of another log than the cursor. */
  private isCursorForeign = false

  /** Server's clock minus the device's. */
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
    /** Whether a REGISTER or SUBSCRIBE is pending. */
    private readonly isRegistering: () => boolean,
  ) {}

  /** The device stops reading. */
  get isFull(): boolean {
    return this.state.inbox.size >= this.settings.inboxMax
  }

  /** The device reads again. */
  get hasRoom(): boolean {
    return this.state.inbox.size <= this.settings.inboxMax / 2
  }

  /** A connection begins: until the server says otherwise, the cursor is of its log. */
  connected(): void {
    this.isCursorForeign = false
  }

  take(localMs: number, frame: IntakeFrame): void {
    if (frame.type === 'NOTIFY') this.notify(localMs, frame)
    else if (frame.type === 'NOTIFY_GROUP') this.notifyGroup(localMs, frame)
    else if (frame.type === 'CAUGHT_UP') this.caughtUp(frame)
    else this.gap(frame)
  }

  private notify(localMs: number, frame: NotifyFrame): void {
    // A duplicate is acknowledged too. Its acknowledgement follows the write of the first copy, because turns keep their order.
    this.turns.acknowledge(frame.id)
    if (this.state.hasSeen(frame.id)) return
    const { registration } = frame
    // A pending REGISTERED may bring this number, so the message is stored until then.
    if (this.state.registrations.has(registration) || this.isRegistering())
      this.storeMessage(localMs, { ...content(frame), registration, group: null }, 0)
    // No registration receives the message. It is acknowledged all the same, so that the server does not send it again.
    else this.storeId(localMs, frame, 0)
  }

  private notifyGroup(localMs: number, frame: NotifyGroupFrame): void {
    const { sequence, project, target, registrations } = frame
    const cursorSequence = this.isCursorForeign ? 0 : sequence
    // A newer server may address a kind of group that this device does not know: then only the cursor moves.
    if (!target || this.state.hasSeen(frame.id)) this.storeId(localMs, frame, cursorSequence)
    else {
      const group = { ...target, project, sequence, registrations }
      this.storeMessage(localMs, { ...content(frame), registration: 0, group }, cursorSequence)
    }
  }

  private caughtUp({ cursor }: CaughtUpFrame): void {
    if (cursor) {
      const ours = this.isCursorForeign ? null : this.state.cursor
      this.isCursorForeign = false
      this.turns.change({ kind: 'cursor', cursor: caughtUpCursor(ours, cursor) })
    }
    this.turns.emitWhenDurable({ kind: 'caughtUp', cursor })
  }

  /** The mark of a queue counts all its dropped messages, so only the increase since the last GAP is emitted. */
  private gap({ count, reason, mark }: GapFrame): void {
    // CAUGHT_UP brings the cursor of the new log. If the connection breaks before, the next HELLO has to tell the old one:
    // the server would take a device without a cursor for one that misses nothing before its subscriptions.
    if (reason === 'log_reset') this.isCursorForeign = true
    const fresh = mark ? newInGap(this.state.gap, mark) : count
    if (mark && fresh === 0) return
    if (mark) this.turns.change({ kind: 'gap', mark })
    this.turns.emitWhenDurable({ kind: 'gap', count: fresh, reason })
  }

  private storeMessage(localMs: number, notification: StoredNotification, cursorSequence: number): void {
    const forgetAtMs = this.forgetAt(localMs, notification.expiresAtMs)
    this.turns.change({ kind: 'message', message: notification, forgetAtMs, cursorSequence })
    this.turns.emitWhenDurable({ kind: 'notification', notification })
  }

  private storeId(localMs: number, frame: NotifyFrame | NotifyGroupFrame, cursorSequence: number): void {
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
