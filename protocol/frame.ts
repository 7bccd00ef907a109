/**
 * The frame: `varint length | type | body`. PROTOCOL.md, section "Frames".
 *
 * `length` counts the type byte and the body. One WebSocket message carries one or more whole frames.
 */

/** The version of this protocol, as HELLO tells it. */
export const PROTOCOL_VERSION = 1

/** The WebSocket path of the device port. */
export const DEVICE_PATH = '/v1/device'

/** A message without a frame: the shortest PING, and the answer to it. PROTOCOL.md, section "Keepalive". */
export const EMPTY_MESSAGE = new Uint8Array(0)

/** Longest frame (type and body) that a server accepts from a device, in bytes. */
export const DEVICE_FRAME_BYTES_MAX = 16 * 1024

/** Longest frame (type and body) that a device must accept from a server, in bytes. */
export const SERVER_FRAME_BYTES_MAX = 64 * 1024

/** Longest length prefix, in bytes: 3 x 7 bits are enough for the longest frame. */
export const LENGTH_PREFIX_BYTES_MAX = 3

/** Frame types. The high bit is clear in those from a device, and set in those from a server. */
export const FrameType = {
  HELLO: 0x01,
  ACK: 0x02,
  REGISTER: 0x03,
  UNREGISTER: 0x04,
  SUBSCRIBE: 0x05,
  UNSUBSCRIBE: 0x06,
  PING: 0x07,
  BYE: 0x08,
  WELCOME: 0x81,
  NOTIFY: 0x82,
  NOTIFY_GROUP: 0x83,
  CAUGHT_UP: 0x84,
  REGISTERED: 0x85,
  DONE: 0x86,
  GAP: 0x87,
  GOAWAY: 0x88,
  ERROR: 0x89,
  PONG: 0x8a,
} as const

export type FrameName = keyof typeof FrameType

/** The end that sends a frame. */
export type Sender = 'device' | 'server'

/** The high bit tells the sender of known types and of types of a later version alike. */
export function senderOfType(type: number): Sender {
  return type < 0x80 ? 'device' : 'server'
}

const nameOfType = new Map<number, FrameName>(
  Object.entries(FrameType).map(([name, type]) => [type, name as FrameName]),
)

/** Null: a type of a later version, which receivers skip by its length. */
export function frameName(type: number): FrameName | null {
  return nameOfType.get(type) ?? null
}
