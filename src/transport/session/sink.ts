/** What a session asks of the world. */
import type { CloseName } from '../../../protocol/close-codes.js'
import type { DeviceRequest, OutcomeCode, StoredMessage } from '../../../protocol/envelope.js'
import type { ServerFrame } from '../../../protocol/frame-types.js'
import type { ParkedEntry } from '../../store/queue.js'
import type { Session } from './session.js'

export interface SessionLimits {
  window: number
  held: number
  requests: number
  framesPerSecond: number
}

/** What a session asks of the world. Calls return at once; results come back as inputs, in a later turn. */
export interface SessionSink {
  readonly limits: SessionLimits
  /** A frame that is encoded already. */
  forward(session: Session, frame: Uint8Array): void
  send(session: Session, frame: ServerFrame): void
  /** The answer to an empty message: another one. */
  answerEmpty(session: Session): void
  /** Ends the connection, after an ERROR frame; `end` of the session is called before this returns. */
  close(session: Session, reason: CloseName, detail?: string, connection?: number): void
  outcome(session: Session, router: string, id: bigint, outcome: OutcomeCode): void
  /** A parked message was acknowledged. False where there is no room to remember that. */
  settle(session: Session, parked: ParkedRef): boolean
  /**
   * True from the acknowledgement of a parked message on until its record is gone and no read under way can show it any
   * more: it needs no second delivery.
   */
  isSettling(device: string, id: bigint): boolean
  /** Answered by parkedRead, or by parkedReadFailed. */
  readParked(session: Session): void
  /** Answered by replied. */
  request(session: Session, request: number, what: DeviceRequest): void
}

/** What settle must know of a parked record. */
export interface ParkedRef {
  message: Pick<StoredMessage, 'id' | 'project' | 'application'>
  sequence: number
}

export function refOf({ sequence, record }: ParkedEntry): ParkedRef {
  const { id, project, application } = record.message
  return { message: { id, project, application }, sequence }
}
