/** Chooses addressees among the connected devices: each generator process has connected the first ones of its share. */
import type { Range } from './generator/generators.js'

const GOLDEN = 0x9e3779b1

/** A pseudo-random device for message `n`, the same in every run (Fibonacci hashing). Throws RangeError without devices. */
export function pickDevice(n: number, ranges: readonly Range[]): number {
  const total = ranges.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) throw new RangeError('no device is connected')
  return nthDevice(Math.floor(((Math.imul(n, GOLDEN) >>> 0) / 2 ** 32) * total), ranges)
}

/** The device with the n-th lowest number. Throws RangeError if fewer are connected. */
export function nthDevice(n: number, ranges: readonly Range[]): number {
  let place = n
  for (const { first, count } of ranges) {
    if (place < count) return first + place
    place -= count
  }
  throw new RangeError(`no device ${n} is connected`)
}
