/** MQTT 3.1.1 with QoS 1. Each device subscribes to a topic of its own and to one topic for all. */
import type { Dialect, DialectHost } from '../dialect.js'
import type { Peer } from '../peer.js'
import { clientFrame } from '../websocket.js'
import { tallyFrame, withTail } from './frame-stamp.js'
import {
  connectPacket,
  DISCONNECT,
  Packet,
  type PacketPosition,
  PINGREQ,
  pubackPacket,
  readPacket,
  readPublish,
  subscribePacket,
} from './mqtt-packets.js'

export const topicOf = (index: number) => `d/${index}`
export const TOPIC_ALL = 'all'

const KEEPALIVE_SECONDS = 600
const PING = clientFrame(PINGREQ)
const LEAVE = clientFrame(DISCONNECT)

export class MqttDialect implements Dialect {
  readonly subprotocol = 'mqtt'

  constructor(private readonly host: DialectHost) {}

  opened(peer: Peer): void {
    const clientId = `bench-${peer.index}`
    peer.send(clientFrame(connectPacket({ clientId, clean: true, keepaliveSeconds: KEEPALIVE_SECONDS })))
  }

  message(peer: Peer, bytes: Buffer, start: number, end: number): void {
    const whole = withTail(peer.tail, bytes, start, end)
    peer.tail = null
    let at = 0
    for (let packet = readPacket(whole, at, whole.length); packet; packet = readPacket(whole, at, whole.length)) {
      at = packet.end
      this.#packet(peer, whole, packet)
    }
    if (at < whole.length) peer.tail = Buffer.from(whole.subarray(at))
  }

  keepalive(peer: Peer): void {
    peer.send(PING)
  }

  leave(peer: Peer): void {
    peer.send(LEAVE)
  }

  #packet(peer: Peer, bytes: Buffer, { type, flags, start, end }: PacketPosition): void {
    switch (type) {
      case Packet.CONNACK:
        peer.send(clientFrame(subscribePacket(1, [topicOf(peer.index), TOPIC_ALL])))
        return
      case Packet.SUBACK:
        this.host.ready(peer)
        return
      case Packet.PUBLISH: {
        const isQos1 = (flags & 6) === 2
        const { id, payloadAt } = readPublish(bytes, start)
        // A PUBLISH with QoS 0 has no packet id.
        tallyFrame(this.host, bytes, isQos1 ? payloadAt : payloadAt - 2, end)
        if (isQos1) peer.send(clientFrame(pubackPacket(id)))
        return
      }
      case Packet.PINGRESP:
        this.host.tally.pongs++
        return
      default:
        this.host.tally.faults++
    }
  }
}
