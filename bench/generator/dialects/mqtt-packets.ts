/** The packets of MQTT 3.1.1 that a publisher and a subscriber of bench need. Numbers are sections of the standard. */
export const Packet = {
  CONNECT: 1,
  CONNACK: 2,
  PUBLISH: 3,
  PUBACK: 4,
  SUBSCRIBE: 8,
  SUBACK: 9,
  PINGREQ: 12,
  PINGRESP: 13,
  DISCONNECT: 14,
} as const

const LEVEL_3_1_1 = 4
const FLAG_USERNAME = 0x80
const FLAG_PASSWORD = 0x40
const FLAG_CLEAN = 0x02

export const PINGREQ = Buffer.of(Packet.PINGREQ << 4, 0)
export const DISCONNECT = Buffer.of(Packet.DISCONNECT << 4, 0)

export interface Connect {
  clientId: string
  clean: boolean
  keepaliveSeconds: number
  /** Absent: anonymous. */
  credentials?: { username: string; password: string }
}

/** 3.1 */
export function connectPacket({ clientId, clean, keepaliveSeconds, credentials }: Connect): Buffer {
  const flags = (clean ? FLAG_CLEAN : 0) | (credentials ? FLAG_USERNAME | FLAG_PASSWORD : 0)
  return packet(Packet.CONNECT << 4, [
    text('MQTT'),
    Buffer.of(LEVEL_3_1_1, flags),
    uint16(keepaliveSeconds),
    text(clientId),
    ...(credentials ? [text(credentials.username), text(credentials.password)] : []),
  ])
}

/** 3.8, with QoS 1 */
export function subscribePacket(id: number, topics: readonly string[]): Buffer {
  return packet((Packet.SUBSCRIBE << 4) | 2, [uint16(id), ...topics.flatMap((topic) => [text(topic), Buffer.of(1)])])
}

/** 3.3 */
export function publishPacket(topic: string, payload: Uint8Array, qos: 0 | 1, id: number): Buffer {
  return packet((Packet.PUBLISH << 4) | (qos << 1), [text(topic), ...(qos > 0 ? [uint16(id)] : []), payload])
}

/** 3.4 */
export function pubackPacket(id: number): Buffer {
  return Buffer.of(Packet.PUBACK << 4, 2, id >> 8, id & 255)
}

/** The position of a packet in the bytes read. */
export interface PacketPosition {
  type: number
  flags: number
  /** Offset after the fixed header. */
  start: number
  end: number
}

/** 2.2. Null: the packet is incomplete. */
export function readPacket(bytes: Uint8Array, at: number, end: number): PacketPosition | null {
  let length = 0
  let start = at + 1
  for (let shift = 0; ; shift += 7) {
    if (start >= end) return null
    const byte = bytes[start++] as number
    length += (byte & 127) * 2 ** shift
    if (byte < 128) break
  }
  if (end - start < length) return null
  const first = bytes[at] as number
  return { type: first >> 4, flags: first & 15, start, end: start + length }
}

/** Packet id and payload offset of a PUBLISH with QoS 1. */
export function readPublish(bytes: Buffer, start: number): { id: number; payloadAt: number } {
  const idAt = start + 2 + bytes.readUInt16BE(start)
  return { id: bytes.readUInt16BE(idAt), payloadAt: idAt + 2 }
}

function packet(first: number, parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const head = [first]
  let rest = length
  do {
    const low = rest % 128
    rest = (rest - low) / 128
    head.push(rest > 0 ? low | 128 : low)
  } while (rest > 0)
  return Buffer.concat([Buffer.from(head), ...parts])
}

const uint16 = (value: number) => Buffer.of(value >> 8, value & 255)

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint16(bytes.length), bytes])
}
