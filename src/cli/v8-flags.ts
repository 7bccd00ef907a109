/** What V8 is told where one of our processes starts another. */

/**
 * V8 forgets the shape of a kind of object once none of that kind lives through two full collections, and throws away all
 * compiled code that relied on it. Messages, frames and answers live for less than a turn: each collection, those of
 * quiet moments above all, would find none of them, and the whole hot path would be compiled again and again. The
 * collections that V8 begins by itself where little happens forget shapes in any case; a worker has its own for that.
 */
const KEEP_SHAPES = ['--retain-maps-for-n-gc=1000000000', '--no-memory-reducer']

/**
 * A core under load has thousands of messages in hand: with the default of 16 MB they survive, are copied twice and die in
 * the old generation.
 */
const CORE = ['--max-semi-space-size=64']

/**
 * A worker asks for a collection in a quiet moment (transport/quiet-collection.ts). A smaller young generation would
 * save it memory and cost more: what handshakes have under way is promoted then, and the old generation grows by it.
 *
 * One thread beside the main one for V8's own work: an instance has a worker for each core and more, and threads that
 * share out a short collection cost more than they save. That one marks and sweeps; of a young generation, collected
 * in a few milliseconds, it takes no share.
 */
const WORKER = ['--expose-gc', '--v8-pool-size=1', '--no-parallel-scavenge', ...KEEP_SHAPES]

/** Flags of Node for a process with that part. A size that the operator chose in NODE_OPTIONS is not overruled. */
export function v8Flags(part: string, nodeOptions = process.env.NODE_OPTIONS ?? ''): readonly string[] {
  if (part === 'core') return /semi[-_]space/.test(nodeOptions) ? [] : CORE
  return part === 'worker' ? WORKER : []
}
