/**
 * Microseconds on the monotonic clock, which every process of this machine shares: a stamp made in one process and read
 * in another is a latency, whatever happens to the wall clock.
 */
const offsetMicros = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000

export function nowMicros(): number {
  return performance.now() * 1000 + offsetMicros
}
