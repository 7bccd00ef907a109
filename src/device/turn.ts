/**
 * One turn of the device: what its inputs changed, whom to acknowledge and what to tell the app, all of it held back
 * until the changes are durable. Turns end in the order in which they began.
 *
 * This is where I2 is kept: an acknowledgement and a hand-over belong to a turn, and a turn is released only by its write.
 */
import type { ConnectionEvent } from './events.js'
import type { Change, DeviceState } from './state/state.js'

export interface Turn {
  changes: Change[]
  /** Message ids to acknowledge. */
  acks: bigint[]
  events: ConnectionEvent[]
  /**
   * The connection number to which this turn raises; 0: it does not. HELLO waits for it, and so for every turn before it:
   * acknowledgements of one connection are sent or void before the next one is open.
   */
  raisesTo: number
}

export class Turns {
  private current: Turn | null = null
  private notices: ConnectionEvent[] = []
  private readonly underWay: Turn[] = []
  /** Events of turns whose write failed: told once a later write made their changes durable. */
  private held: ConnectionEvent[] = []

  constructor(private readonly state: DeviceState) {}

  /** In memory now, durable with this turn. */
  change(change: Change): void {
    this.state.apply(change)
    this.open().changes.push(change)
  }

  acknowledge(id: bigint): void {
    this.open().acks.push(id)
  }

  raiseTo(connection: number): void {
    this.change({ kind: 'connection', connection })
    this.open().raisesTo = connection
  }

  /** Told when this turn is durable. */
  tell(event: ConnectionEvent): void {
    this.open().events.push(event)
  }

  /** Told at the end of this turn, durable or not: how the connection fares. */
  notice(event: ConnectionEvent): void {
    this.notices.push(event)
  }

  get isOpen(): boolean {
    return this.current !== null || this.notices.length > 0
  }

  /** Something waits for a write that succeeds. */
  get isHolding(): boolean {
    return this.held.length > 0
  }

  takeNotices(): ConnectionEvent[] {
    const { notices } = this
    this.notices = []
    return notices
  }

  /** Ends the turn; null: nothing to make durable. Its write follows at once: turns are confirmed in this order. */
  close(): Turn | null {
    const { current: turn } = this
    this.current = null
    if (turn) this.underWay.push(turn)
    return turn
  }

  /** The oldest write was confirmed: its turn, with the events that waited for any success. Null: none is under way. */
  confirmed(): Turn | null {
    const turn = this.underWay.shift()
    if (!turn) return null
    if (this.held.length > 0) {
      turn.events.unshift(...this.held)
      this.held = []
    }
    return turn
  }

  /** The oldest write failed: nobody may be told of it yet. False: none is under way. */
  failed(): boolean {
    const turn = this.underWay.shift()
    if (turn) this.held.push(...turn.events)
    return turn !== undefined
  }

  private open(): Turn {
    this.current ??= { changes: [], acks: [], events: [], raisesTo: 0 }
    return this.current
  }
}
