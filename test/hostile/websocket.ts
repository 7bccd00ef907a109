/** Builds the client's side of WebSocket (RFC 6455): valid frames, fragments, and frames that break the RFC. */
import { Opcode } from '../../bench/generator/websocket.js'
import { DEVICE_PATH } from '../../protocol/frame.js'
import { below, noise, pick, type Random } from './chance.js'

export { Opcode }

export interface FrameShape {
  fin?: boolean
  /** The three reserved bits. */
  reserved?: number
  opcode?: number
  masked?: boolean
  /** Size of the extended length field; default: the shortest form. */
  lengthBytes?: 0 | 2 | 8
  /** The length in the header; default: the real length. */
  declared?: bigint
}

const FIN = 0x80
const MASKED = 0x80

export function frame(random: Random, payload: Uint8Array, shape: FrameShape = {}): Buffer {
  const { fin = true, reserved = 0, opcode = Opcode.BINARY, masked = true, declared = BigInt(payload.length) } = shape
  const lengthBytes = shape.lengthBytes ?? (declared < 126n ? 0 : declared < 65_536n ? 2 : 8)
  const bytes = Buffer.alloc(2 + lengthBytes + (masked ? 4 : 0) + payload.length)
  bytes[0] = (fin ? FIN : 0) | (reserved << 4) | opcode
  const bit = masked ? MASKED : 0
  if (lengthBytes === 0) bytes[1] = bit | Number(declared & 127n)
  else bytes[1] = bit | (lengthBytes === 2 ? 126 : 127)
  if (lengthBytes === 2) bytes.writeUInt16BE(Number(declared & 0xffffn), 2)
  if (lengthBytes === 8) bytes.writeBigUInt64BE(declared, 2)
  const at = 2 + lengthBytes
  if (!masked) {
    bytes.set(payload, at)
    return bytes
  }
  const key = noise(random, 4)
  bytes.set(key, at)
  for (let i = 0; i < payload.length; i++) bytes[at + 4 + i] = (payload[i] ?? 0) ^ (key[i & 3] ?? 0)
  return bytes
}

/** One message in several frames, with pings between them, which the RFC allows. */
export function fragmented(random: Random, message: Uint8Array): Buffer {
  const parts: Buffer[] = []
  let at = 0
  let opcode: number = Opcode.BINARY
  do {
    const end = Math.min(message.length, at + 1 + below(random, Math.max(1, message.length)))
    parts.push(frame(random, message.subarray(at, end), { fin: end === message.length, opcode }))
    if (end < message.length && below(random, 3) === 0)
      parts.push(frame(random, noise(random, 8), { opcode: Opcode.PING }))
    at = end
    opcode = Opcode.CONTINUATION
  } while (at < message.length)
  return Buffer.concat(parts)
}

/** Frames that break the RFC, by name. The WebSocket layer may close the connection or ignore them. */
export const broken: Record<string, (random: Random) => Buffer> = {
  'reserved opcode': (r) => frame(r, noise(r, below(r, 20)), { opcode: pick(r, [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) }),
  'reserved bits': (r) => frame(r, noise(r, below(r, 20)), { reserved: 1 + below(r, 7) }),
  unmasked: (r) => frame(r, noise(r, below(r, 200)), { masked: false }),
  'continuation of nothing': (r) => frame(r, noise(r, 10), { opcode: Opcode.CONTINUATION }),
  'a message inside a message': (r) => Buffer.concat([frame(r, noise(r, 10), { fin: false }), frame(r, noise(r, 10))]),
  'a fragmented ping': (r) => frame(r, noise(r, 10), { fin: false, opcode: Opcode.PING }),
  'a long ping': (r) => frame(r, noise(r, 126 + below(r, 1_000)), { opcode: Opcode.PING }),
  'a long close': (r) => frame(r, noise(r, 200), { opcode: Opcode.CLOSE }),
  'a length not in its shortest form': (r) => frame(r, noise(r, 5), { lengthBytes: pick(r, [2, 8] as const) }),
  'a length of 2^63': (r) => frame(r, noise(r, 40), { lengthBytes: 8, declared: 2n ** 63n + BigInt(below(r, 99)) }),
  'a length of 2^64 - 1': (r) => frame(r, noise(r, 40), { lengthBytes: 8, declared: 2n ** 64n - 1n }),
  'a length over the limit': (r) =>
    frame(r, noise(r, 40), { lengthBytes: 8, declared: BigInt(32_769 + below(r, 2 ** 30)) }),
  'a message over the limit': (r) => frame(r, new Uint8Array(40_000)),
  'fragments over the limit': (r) =>
    Buffer.concat([
      frame(r, new Uint8Array(20_000), { fin: false }),
      frame(r, new Uint8Array(20_000), { opcode: Opcode.CONTINUATION }),
    ]),
  'fragments without end': (r) =>
    Buffer.concat([
      frame(r, new Uint8Array(1), { fin: false }),
      ...Array.from({ length: 500 }, () => frame(r, new Uint8Array(0), { fin: false, opcode: Opcode.CONTINUATION })),
    ]),
  text: (r) => frame(r, Buffer.from('HELLO ü'), { opcode: Opcode.TEXT }),
  'text that is no UTF-8': (r) => frame(r, Uint8Array.of(0xc3, 0x28, 0xff), { opcode: Opcode.TEXT }),
  'an empty message': (r) => frame(r, new Uint8Array()),
  'half a frame': (r) => frame(r, noise(r, 100)).subarray(0, 1 + below(r, 60)),
  'noise instead of frames': (r) => Buffer.from(noise(r, 1 + below(r, 400))),
  'many pings': (r) =>
    Buffer.concat(Array.from({ length: 200 }, () => frame(r, noise(r, 125), { opcode: Opcode.PING }))),
  'pongs unasked': (r) =>
    Buffer.concat(Array.from({ length: 50 }, () => frame(r, noise(r, 125), { opcode: Opcode.PONG }))),
  'a close with any code': (r) => {
    const code = pick(r, [0, 999, 1000, 1004, 1005, 1006, 1015, 2999, 4000, 4050, 4999, 5000, 65_535])
    return frame(r, Uint8Array.of(code >> 8, code & 255, ...noise(r, below(r, 30))), { opcode: Opcode.CLOSE })
  },
  'a close of one byte': (r) => frame(r, Uint8Array.of(3), { opcode: Opcode.CLOSE }),
  'frames after a close': (r) =>
    Buffer.concat([
      frame(r, Uint8Array.of(3, 232), { opcode: Opcode.CLOSE }),
      frame(r, Uint8Array.of(1, 7)),
      frame(r, noise(r, 9)),
    ]),
}

export function upgradeRequest(random: Random, path: string = DEVICE_PATH): Buffer {
  const key = Buffer.from(noise(random, 16)).toString('base64')
  const lines = [`GET ${path} HTTP/1.1`, 'Host: x', 'Upgrade: websocket', 'Connection: Upgrade']
  return Buffer.from(`${[...lines, `Sec-WebSocket-Key: ${key}`, 'Sec-WebSocket-Version: 13'].join('\r\n')}\r\n\r\n`)
}
