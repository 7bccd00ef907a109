/**
 * The stamp in each message of bench: the number of the message, and the time at which it was due. It is text of a fixed
 * length. So it can be written into prebuilt bytes, sent as a JSON attribute over HTTP, and found at the end of a frame.
 *
 *   8 hex digits sequence | 14 hex digits microseconds of micros.ts
 */
import { Packr } from 'msgpackr'

export const STAMP_BYTES = 22
const SEQUENCE_DIGITS = 8
const packr = new Packr({ useRecords: false })

export function stampText(sequence: number, micros: number): string {
  return sequence.toString(16).padStart(8, '0') + Math.floor(micros).toString(16).padStart(14, '0')
}

/** Custom attributes whose encoded form ends with the stamp. */
export function stampAttributes(sequence: number, micros: number): { b: string } {
  return { b: stampText(sequence, micros) }
}

/** These attributes, encoded as the `data` field of a frame. */
export function stampData(sequence: number, micros: number): Uint8Array {
  return packr.pack(stampAttributes(sequence, micros))
}

export function writeStamp(into: Uint8Array, at: number, sequence: number, micros: number): void {
  writeHex(into, at, SEQUENCE_DIGITS, sequence)
  writeHex(into, at + SEQUENCE_DIGITS, STAMP_BYTES - SEQUENCE_DIGITS, Math.floor(micros))
}

export function sequenceAt(bytes: Uint8Array, at: number): number {
  return readHex(bytes, at, SEQUENCE_DIGITS)
}

export function microsAt(bytes: Uint8Array, at: number): number {
  return readHex(bytes, at + SEQUENCE_DIGITS, STAMP_BYTES - SEQUENCE_DIGITS)
}

function writeHex(into: Uint8Array, at: number, digits: number, value: number): void {
  let rest = value
  for (let i = at + digits - 1; i >= at; i--) {
    const digit = rest % 16
    into[i] = digit < 10 ? 48 + digit : 87 + digit
    rest = (rest - digit) / 16
  }
}

/** NaN if the bytes are not hex digits in lower case. */
function readHex(bytes: Uint8Array, at: number, digits: number): number {
  let value = 0
  for (let i = at; i < at + digits; i++) {
    const c = bytes[i] ?? 0
    const digit = c >= 48 && c <= 57 ? c - 48 : c >= 97 && c <= 102 ? c - 87 : Number.NaN
    value = value * 16 + digit
  }
  return value
}
