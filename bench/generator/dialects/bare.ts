/** The floor: a message comes, an answer of the size of an ACK goes. Ready as soon as it is open. */

import { nowMicros } from '../../micros.js'
import { microsAt, STAMP_BYTES, sequenceAt } from '../../stamp.js'
import type { Dialect, DialectHost } from '../dialect.js'
import type { Peer } from '../peer.js'
import { Opcode, writeHeader } from '../websocket.js'
import { ackMessage } from './acks.js'

export class BareDialect implements Dialect {
  readonly subprotocol = ''

  constructor(private readonly host: DialectHost) {}

  opened(peer: Peer): void {
    this.host.ready(peer)
  }

  /** The server of the baseline sends the NOTIFY frames of our protocol, so that sizes are equal. */
  message(peer: Peer, bytes: Buffer, start: number, end: number): void {
    const { tally, behaviour } = this.host
    const idAt = start + ((bytes[start] as number) < 128 ? 3 : 4)
    const stampAt = end - STAMP_BYTES
    const nowAt = nowMicros()
    const low = bytes.readUInt32LE(idAt)
    const high = bytes.readUInt32LE(idAt + 4)
    const latency = nowAt - microsAt(bytes, stampAt)
    // Without acknowledgements it is the broadcast: the same message comes to every device.
    if (!behaviour.acknowledge) tally.groupMessage(latency, nowAt)
    else {
      tally.message(sequenceAt(bytes, stampAt), low, high, latency, nowAt)
      peer.send(ackMessage([low, high], 1))
    }
  }

  keepalive(peer: Peer): void {
    const ping = Buffer.allocUnsafe(6)
    writeHeader(ping, Opcode.PING, 0)
    peer.send(ping)
  }

  leave(): void {}
}
