/** A child process of the pool: runs the seeds that the parent sends, and ends when the parent disconnects. */
import { runBatch, type SeedRange } from './pool.js'

// Ctrl-C reaches the whole process group. The parent stops sending; this child finishes its seeds, so none is missing.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

process.on('message', (range: SeedRange) => {
  runBatch(range).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    },
  )
})
