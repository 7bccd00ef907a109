/**
 * Converts 64-bit values: the generated code has them as pairs of 32 bits, our frames have fixed64 as bigint and uint64
 * as a safe number.
 */

/** A 64-bit value of the generated code: a Long if that package is installed, else a number. */
export type Wire64 = number | { low: number; high: number; unsigned: boolean }

const TWO_32 = 0x1_0000_0000
const HIGH_MAX = 0x1f_ffff

export function toBigint(value: Wire64): bigint {
  if (typeof value === 'number') return BigInt(value)
  return (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0)
}

/** Throws a RangeError for a value over 2^53-1. */
export function toSafeNumber(value: Wire64, field: string): number {
  // Most values are small. Computed like this they stay small integers; V8 allocates an object for every other number.
  if (typeof value !== 'number' && value.high === 0) return value.low >>> 0
  const number =
    typeof value === 'number'
      ? value
      : value.high >>> 0 > HIGH_MAX
        ? Number.NaN
        : (value.high >>> 0) * TWO_32 + (value.low >>> 0)
  if (!Number.isSafeInteger(number)) throw new RangeError(`${field} is greater than 2^53-1`)
  return number
}

/** Throws a RangeError for a value that is not an unsigned 64-bit integer. */
export function fromBigint(value: bigint, field: string): Wire64 {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`${field} ${value} is outside 0..2^64-1`)
  return { low: Number(BigInt.asIntN(32, value)), high: Number(BigInt.asIntN(32, value >> 32n)), unsigned: true }
}

/** Throws a RangeError for a value that is not an integer of 0..2^53-1. */
export function fromSafeNumber(value: number, field: string): Wire64 {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`${field} ${value} is not an integer of 0..2^53-1`)
  return { low: value | 0, high: Math.floor(value / TWO_32) | 0, unsigned: true }
}
