/** Memory after the garbage of what was done is gone. */
const SETTLE_MS = 400
const LOOKS_MAX = 12
const SAME = 0.002

/** Looks until two looks agree. */
export async function settledBytes(look: () => number): Promise<number> {
  let last = look()
  for (let i = 0; i < LOOKS_MAX; i++) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    const now = look()
    if (Math.abs(now - last) < last * SAME) return now
    last = now
  }
  return last
}
