/**
 * Microseconds of the monotonic clock, which all processes of a machine share. So one process can read the stamp of
 * another as a latency, and a change of the wall clock does not matter.
 */
const ATTEMPTS = 32

/**
 * The difference between performance.now(), which is cheap but begins at 0 in each process, and the shared clock. Of
 * several attempts the shortest counts, because it was interrupted the least.
 */
function measureOffset(): number {
  let best = Number.POSITIVE_INFINITY
  let offset = 0
  for (let i = 0; i < ATTEMPTS; i++) {
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
