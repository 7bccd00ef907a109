/** Unsigned little-endian base-128 integers: lengths of frames, and protobuf fields. */

/** The number of bytes in the shortest form of 0..2^53-1. */
export function varintBytes(value: number): number {
  let bytes = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

/** Writes the shortest form at `at`; returns the offset after it. */
export function writeVarint(into: Uint8Array, at: number, value: number): number {
  let offset = at
  let rest = value
  while (rest >= 128) {
    into[offset++] = (rest % 128) | 0x80
    rest = Math.floor(rest / 128)
  }
  into[offset++] = rest
  return offset
}
