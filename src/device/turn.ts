/**
 * A turn collects the results of all inputs that the device handles in one go: state changes, acknowledgements and events.
 * The acknowledgements and events leave only when the changes are durable, in the order of the turns. This keeps I2: the
 * device neither acknowledges nor hands over a message before it is stored.
 */
import type { ConnectionEvent } from './events.js'
import type { Change, DeviceState } from './state/state.js'

export interface Turn {
  changes: Change[]
  /** Message ids to acknowledge. */
  acks: bigint[]
  events: ConnectionEvent[]
  /**
   * The connection number that this turn makes durable; 0: none. HELLO waits for this turn, and thereby for all earlier
   * ones: when a connection opens, no acknowledgement of an earlier connection is pending.
   */
  raisesTo: number
}

export class Turns {
  private current: Turn | null = null
  private immediate: ConnectionEvent[] = []
  /** Turns whose write has not been confirmed, oldest first. */
  private readonly unconfirmed: Turn[] = []
  /** Events of turns whose write failed. The next successful write makes their changes durable and releases them. */
  private held: ConnectionEvent[] = []

  constructor(private readonly state: DeviceState) {}

  /** Applies a change in memory now; it is durable when this turn is. */
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

  /** For events that depend on stored changes. */
  emitWhenDurable(event: ConnectionEvent): void {
    this.open().events.push(event)
  }

  /** For events that depend on no stored change, such as the state of the connection. */
  emitAtTurnEnd(event: ConnectionEvent): void {
    this.immediate.push(event)
  }

  get isOpen(): boolean {
    return this.current !== null || this.immediate.length > 0
  }

  /** True: events wait for the next successful write. */
  get isHolding(): boolean {
    return this.held.length > 0
  }

  takeImmediate(): ConnectionEvent[] {
    const { immediate } = this
    this.immediate = []
    return immediate
  }

  /** Ends the turn, whose write must follow at once. Null: there is nothing to write. */
  close(): Turn | null {
    const { current: turn } = this
    this.current = null
    if (turn) this.unconfirmed.push(turn)
    return turn
  }

  /** The oldest write succeeded. Returns its turn, with the held events added; null: there was no write. */
  confirmed(): Turn | null {
    const turn = this.unconfirmed.shift()
    if (!turn) return null
    if (this.held.length > 0) {
      turn.events.unshift(...this.held)
      this.held = []
    }
    return turn
  }

  /** The oldest write failed, so its events are held. False: there was no write. */
  failed(): boolean {
    const turn = this.unconfirmed.shift()
    if (turn) this.held.push(...turn.events)
    return turn !== undefined
  }

  private open(): Turn {
    this.current ??= { changes: [], acks: [], events: [], raisesTo: 0 }
    return this.current
  }
}
