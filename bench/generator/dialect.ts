/** What a generator says once a WebSocket is open: our protocol, or that of a baseline. */
import type { GoawayFrame } from '../../protocol/frame-types.js'
import type { StoredSigningKey } from '../../src/keyring.js'
import type { Peer } from './peer.js'
import type { Returns } from './returns.js'
import type { Tally } from './tally.js'

export interface Dialect {
  /** Sec-WebSocket-Protocol; empty: none. */
  readonly subprotocol: string
  /** The upgrade was answered: says hello, or is ready at once. */
  opened(peer: Peer): void
  /** One whole WebSocket message. The bytes are gone when it returns. */
  message(peer: Peer, bytes: Buffer, start: number, end: number): void
  keepalive(peer: Peer): void
  /** A polite goodbye before the socket is closed. */
  leave(peer: Peer): void
}

/** What a dialect tells its swarm. */
export interface DialectHost {
  readonly tally: Tally
  readonly behaviour: Behaviour
  readonly returns: Returns
  ready(peer: Peer): void
  /** The server asks to leave, and to come back. */
  goAway(peer: Peer, frame: GoawayFrame): void
}

/** May be changed while connections are open. */
export interface Behaviour {
  /** Answer each message as the protocol wants it. */
  acknowledge: boolean
  /** Come back after a close, with backoff. */
  reconnect: boolean
  /** Show resume tickets where there are some. */
  resume: boolean
  /** Every so many-th device reads one second of ten; 0: all read. */
  slowEvery: number
  /**
   * 0: each message has a stamp of its own. Else one stamp is that of the first of many targets, which go round all so
   * many devices: the device's number tells which of them it got.
   */
  spread: number
}

export interface DialectConfig {
  kind: 'borealis' | 'bare' | 'mqtt' | 'nats'
  /** Names the devices of this run: 8 of [a-z0-9]. */
  run: string
  /** borealis: what device tokens are made with. */
  signing?: StoredSigningKey & { issuer: string }
}
