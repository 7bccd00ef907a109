/** Which devices are addressed, of those that came: they are the first ones of each generator process. */
import type { Range } from './generator/generators.js'

const GOLDEN = 0x9e3779b1

/** At random, the same ones in every run: Fibonacci hashing of the message's number. Throws RangeError where nobody came. */
export function pickDevice(n: number, ranges: readonly Range[]): number {
  const total = ranges.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) throw new RangeError('no device is connected')
  return nthDevice(Math.floor(((Math.imul(n, GOLDEN) >>> 0) / 2 ** 32) * total), ranges)
}

/** Throws RangeError where not so many came. */
export function nthDevice(n: number, ranges: readonly Range[]): number {
  let place = n
  for (const { first, count } of ranges) {
    if (place < count) return first + place
    place -= count
  }
  throw new RangeError(`no device ${n} is connected`)
}
