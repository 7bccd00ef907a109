/** Memory after the garbage of what was done is gone. */
const SETTLE_MS = 500
const LOOKS_MAX = 16
/** So many looks in a row, for a server that collects its garbage may wait for a second without work. */
const SAME_LOOKS = 5
const SAME = 0.002

/** Looks until nothing changes any more. */
export async function settledBytes(look: () => number): Promise<number> {
  let last = look()
  let same = 0
  for (let i = 0; i < LOOKS_MAX && same < SAME_LOOKS; i++) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    const now = look()
    same = Math.abs(now - last) < last * SAME ? same + 1 : 0
    last = now
  }
  return last
}
