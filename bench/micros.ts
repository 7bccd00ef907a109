/**
 * Microseconds on the monotonic clock, which every process of this machine shares: a stamp made in one process and read
 * in another is a latency, whatever happens to the wall clock.
 */
const LOOKS = 32

/** Between the cheap clock of this process and the shared one: of several looks, the one that was interrupted least. */
function measureOffset(): number {
  let best = Number.POSITIVE_INFINITY
  let offset = 0
  for (let i = 0; i < LOOKS; i++) {
    const before = performance.now()
    const shared = process.hrtime.bigint()
    const after = performance.now()
    if (after - before >= best) continue
    best = after - before
    offset = Number(shared) / 1000 - (before + after) * 500
  }
  return offset
}

const offsetMicros = measureOffset()

export function nowMicros(): number {
  return performance.now() * 1000 + offsetMicros
}
