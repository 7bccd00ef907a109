/** The lower bound: no handshake beyond the upgrade, and an answer of the size of an ACK to each message. */
import type { Dialect, DialectHost } from '../dialect.js'
import type { Peer } from '../peer.js'
import { clientFrame, Opcode } from '../websocket.js'
import { ackMessage } from './acks.js'
import { tallyFrame } from './frame-stamp.js'

const PING = clientFrame(new Uint8Array(), Opcode.PING)

export class BareDialect implements Dialect {
  readonly subprotocol = ''

  constructor(private readonly host: DialectHost) {}

  opened(peer: Peer): void {
    this.host.ready(peer)
  }

  /** The baseline server sends NOTIFY frames of our protocol, so that the sizes are equal. */
  message(peer: Peer, bytes: Buffer, start: number, end: number): void {
    tallyFrame(this.host, bytes, start, end)
    if (!this.host.behaviour.acknowledge) return
    const idAt = start + ((bytes[start] as number) < 128 ? 3 : 4)
    peer.send(ackMessage([bytes.readUInt32LE(idAt), bytes.readUInt32LE(idAt + 4)], 1))
  }

  keepalive(peer: Peer): void {
    peer.send(PING)
  }

  leave(): void {}
}
