/**
 * The part of a WebSocket client (RFC 6455) that a load generator needs. It masks with the key 0, which is legal and leaves
 * the bytes as they are: masking costs the client, and bench measures servers.
 */
export const Opcode = { CONTINUATION: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 } as const

const FIN = 0x80
const MASKED = 0x80
const MASK_BYTES = 4

export interface UpgradeTarget {
  host: string
  port: number
  path: string
  /** Empty: no such header. */
  subprotocol: string
}

export function upgradeRequest({ host, port, path, subprotocol }: UpgradeTarget): Buffer {
  const lines = [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}:${port}`,
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    'Sec-WebSocket-Version: 13',
    ...(subprotocol ? [`Sec-WebSocket-Protocol: ${subprotocol}`] : []),
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}

/** Header bytes of a client's frame with this payload. */
export function headerBytes(payloadBytes: number): number {
  return (payloadBytes < 126 ? 2 : payloadBytes < 65_536 ? 4 : 10) + MASK_BYTES
}

/** Writes the header, and returns the offset of the payload. */
export function writeHeader(into: Buffer, opcode: number, payloadBytes: number): number {
  into[0] = FIN | opcode
  let at = 2
  if (payloadBytes < 126) into[1] = MASKED | payloadBytes
  else if (payloadBytes < 65_536) {
    into[1] = MASKED | 126
    at = into.writeUInt16BE(payloadBytes, 2)
  } else {
    into[1] = MASKED | 127
    at = into.writeUIntBE(payloadBytes, 4, 6)
    into.writeUInt16BE(0, 2)
  }
  return into.writeUInt32BE(0, at)
}

export function clientFrame(payload: Uint8Array, opcode: number = Opcode.BINARY): Buffer {
  const frame = Buffer.allocUnsafe(headerBytes(payload.length) + payload.length)
  frame.set(payload, writeHeader(frame, opcode, payload.length))
  return frame
}

/** The position of a server's frame in the bytes read. The reader fills the same object again and again. */
export interface FramePosition {
  opcode: number
  start: number
  end: number
}

/** Finds the frame at `at`. False: it is incomplete. */
export function readServerFrame(bytes: Buffer, at: number, end: number, into: FramePosition): boolean {
  if (end - at < 2) return false
  let length = (bytes[at + 1] as number) & 0x7f
  let start = at + 2
  if (length === 126) {
    if (end - start < 2) return false
    length = bytes.readUInt16BE(start)
    start += 2
  } else if (length === 127) {
    if (end - start < 8) return false
    length = bytes.readUIntBE(start + 2, 6)
    start += 8
  }
  if (end - start < length) return false
  into.opcode = (bytes[at] as number) & 0x0f
  into.start = start
  into.end = start + length
  return true
}

/** Reads the answer to an upgrade request; null: its head is incomplete. */
export function readUpgradeAnswer(bytes: Buffer, end: number): UpgradeAnswer | null {
  const headEnd = bytes.subarray(0, end).indexOf('\r\n\r\n')
  if (headEnd < 0) return null
  const head = bytes.toString('latin1', 0, headEnd)
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0),
    retryAfterMs: Number(/\r\nretry-after: *(\d+)/i.exec(head)?.[1] ?? 0) * 1000,
    end: headEnd + 4,
  }
}

export interface UpgradeAnswer {
  status: number
  retryAfterMs: number
  /** Offset of the first frame. */
  end: number
}

/** The code in the payload of a close frame; 1005 if it has none. */
export function closeCode(bytes: Buffer, start: number, end: number): number {
  return end - start >= 2 ? bytes.readUInt16BE(start) : 1005
}
