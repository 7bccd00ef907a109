/** Flags of V8 for the processes that a process of ours starts. */

/**
 * V8 forgets the hidden class of a kind of object when no such object survives two full collections, and discards all
 * compiled code that depends on it. Messages, frames and answers live for less than one turn of the event loop, so most
 * collections, above all those in quiet moments, find none of them: the whole hot path would be compiled again and again.
 * Collections that V8 starts when little happens forget hidden classes in any case, so workers disable them and start
 * their own.
 */
const KEEP_SHAPES = ['--retain-maps-for-n-gc=1000000000', '--no-memory-reducer']

/**
 * A core under load has thousands of messages in flight. With the default young generation of 16 MB they survive it, are
 * copied twice and die in the old generation.
 */
const CORE = ['--max-semi-space-size=64']

/**
 * A worker starts a collection in a quiet moment (transport/upkeep/quiet-collection.ts). A smaller young generation would
 * save memory and cost more: objects of handshakes in progress would be promoted, and the old generation would grow.
 *
 * One thread beside the main thread does V8's own work. An instance has at least one worker for each core, and more
 * threads cost more than they save in a short collection. That thread marks and sweeps. It does not help with the young
 * generation, which takes a few milliseconds.
 */
const WORKER = ['--expose-gc', '--v8-pool-size=1', '--no-parallel-scavenge', ...KEEP_SHAPES]

/** Flags of Node for a process with that part. Keeps a size that the operator chose in NODE_OPTIONS. */
export function v8Flags(part: string, nodeOptions = process.env.NODE_OPTIONS ?? ''): readonly string[] {
  if (part === 'core') return /semi[-_]space/.test(nodeOptions) ? [] : CORE
  return part === 'worker' ? WORKER : []
}
