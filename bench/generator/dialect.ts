/** The protocol that a generator speaks on an open WebSocket: ours, or that of a baseline. */
import type { GoawayFrame } from '../../protocol/frame-types.js'
import type { StoredSigningKey } from '../../src/keyring.js'
import type { Peer } from './peer.js'
import type { Reconnects } from './reconnects.js'
import type { Tally } from './tally.js'

export interface Dialect {
  /** Value of Sec-WebSocket-Protocol; empty: no such header. */
  readonly subprotocol: string
  /** The WebSocket is open: greets the server, or reports that the peer is ready. */
  opened(peer: Peer): void
  /** Handles the payload of one WebSocket frame. The bytes are overwritten after the return. */
  message(peer: Peer, bytes: Buffer, start: number, end: number): void
  keepalive(peer: Peer): void
  /** Takes leave of the server before the socket is closed. */
  leave(peer: Peer): void
}

/** The swarm as its dialect sees it. */
export interface DialectHost {
  readonly tally: Tally
  readonly behaviour: Behaviour
  readonly reconnects: Reconnects
  ready(peer: Peer): void
  /** The server asked the device to leave and to reconnect. */
  goAway(peer: Peer, frame: GoawayFrame): void
}

/** Settings that may change while connections are open. */
export interface Behaviour {
  /** Acknowledge each message. */
  acknowledge: boolean
  /** Reconnect after a close, with backoff. */
  reconnect: boolean
  /** Connect with a resume ticket if there is one. */
  resume: boolean
  /** Each device whose number is a multiple of this reads for one second of ten; 0: all read always. */
  slowEvery: number
  /**
   * 0: each message has its own stamp. Otherwise the targets of one request share the stamp of the first target, and
   * consecutive targets are consecutive devices out of this many. So a device computes its sequence from its number.
   */
  spread: number
}

export interface DialectConfig {
  kind: 'borealis' | 'bare' | 'mqtt' | 'nats'
  /** Part of the device ids of this run: 8 of [a-z0-9]. */
  run: string
  /** Key for device tokens; only the dialect `borealis` needs it. */
  signing?: StoredSigningKey & { issuer: string }
}
