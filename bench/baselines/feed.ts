/**
 * The format in which bench sends unicast messages to a baseline server over NATS, as a router does to a worker. It is as
 * cheap as a batch can be, so that the baseline is a lower bound.
 *
 *   batch    [connection u32 | length u16 | bytes] ...
 *   answers  [id 8 bytes] ...
 */
export const FEED_SUBJECT = 'bench.feed'
export const BROADCAST_SUBJECT = 'bench.broadcast'
export const ANSWERS_SUBJECT = 'bench.answers'
export const ID_BYTES = 8
const HEAD_BYTES = 6

export interface FeedItem {
  connection: number
  frame: Uint8Array
}

export function encodeFeed(items: readonly FeedItem[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(items.reduce((sum, { frame }) => sum + HEAD_BYTES + frame.length, 0))
  let at = 0
  for (const { connection, frame } of items) {
    at = bytes.writeUInt32LE(connection, at)
    at = bytes.writeUInt16LE(frame.length, at)
    bytes.set(frame, at)
    at += frame.length
  }
  return bytes
}

export function readFeed(bytes: Buffer, each: (connection: number, frame: Buffer) => void): void {
  let at = 0
  while (at < bytes.length) {
    const connection = bytes.readUInt32LE(at)
    const start = at + HEAD_BYTES
    at = start + bytes.readUInt16LE(at + 4)
    each(connection, bytes.subarray(start, at))
  }
}
