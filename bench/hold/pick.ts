/** Devices at random, the same ones in every run: Fibonacci hashing of the message's number. */
import type { Range } from '../generator/generators.js'

const GOLDEN = 0x9e3779b1

/** Of those that came. Throws RangeError where nobody did. */
export function pickDevice(n: number, ranges: readonly Range[]): number {
  const total = ranges.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) throw new RangeError('no device is connected')
  let place = Math.floor(((Math.imul(n, GOLDEN) >>> 0) / 2 ** 32) * total)
  for (const { first, count } of ranges) {
    if (place < count) return first + place
    place -= count
  }
  throw new RangeError('ranges changed')
}
