/**
 * 64-bit values between the generated code, which has them as pairs of 32 bits, and ours: fixed64 as bigint, uint64 as a
 * safe number.
 */

/** What the generated code takes and gives (a Long, where that package is present, else a number). */
export type Wire64 = number | { low: number; high: number; unsigned: boolean }

const TWO_32 = 0x1_0000_0000
const HIGH_MAX = 0x1f_ffff

export function toBigint(value: Wire64): bigint {
  if (typeof value === 'number') return BigInt(value)
  return (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0)
}

/** Throws a RangeError over 2^53-1. */
export function toSafeNumber(value: Wire64, what: string): number {
  // Most are small, and stay small integers in this way: V8 keeps any other number in an object of its own.
  if (typeof value !== 'number' && value.high === 0) return value.low >>> 0
  const number =
    typeof value === 'number'
      ? value
      : value.high >>> 0 > HIGH_MAX
        ? Number.NaN
        : (value.high >>> 0) * TWO_32 + (value.low >>> 0)
  if (!Number.isSafeInteger(number)) throw new RangeError(`${what} is more than 2^53-1`)
  return number
}

/** Throws a RangeError where it is not an unsigned 64-bit integer. */
export function fromBigint(value: bigint, what: string): Wire64 {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`${what} ${value} is not 0..2^64-1`)
  return { low: Number(BigInt.asIntN(32, value)), high: Number(BigInt.asIntN(32, value >> 32n)), unsigned: true }
}

/** Throws a RangeError where it is not an integer of 0..2^53-1. */
export function fromSafeNumber(value: number, what: string): Wire64 {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${what} ${value} is not 0..2^53-1`)
  return { low: value | 0, high: Math.floor(value / TWO_32) | 0, unsigned: true }
}
