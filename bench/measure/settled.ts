/** Waits until the memory of a server stops falling after a load. */
const SETTLE_MS = 500
const READINGS_MAX = 16
/** Number of equal readings in a row: a server may wait a second without work before it collects its garbage. */
const SAME_READINGS = 5
const SAME = 0.002

/** Resolves with the last reading, once the readings are equal, or after READINGS_MAX. */
export async function settledBytes(read: () => number): Promise<number> {
  let last = read()
  let same = 0
  for (let i = 0; i < READINGS_MAX && same < SAME_READINGS; i++) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    const now = read()
    same = Math.abs(now - last) < last * SAME ? same + 1 : 0
    last = now
  }
  return last
}
