/** What all logs and tables of one connection share. */
import type { Room } from '../server/headroom.js'
import type { Link } from './link.js'
import type { Reconnects } from './reconnects.js'
import type { Window } from './window.js'

export interface Shared {
  link: Link
  appends: Window
  reconnects: Reconnects
  /**
   * The server is of no cluster: then every stream has one copy, only that answers a direct get, and what it has is
   * what there is (ADR 0013). Else a replica that lags may answer, and authoritative reads go to the leader.
   */
  isAlone: () => boolean
  /** Null: this process writes nothing that may not be lost. */
  room: Room | null
  report: (problem: string, error: unknown) => void
}

/** The body of a request to the JetStream API. */
export const json = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))
