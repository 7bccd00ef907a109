/** A process of the pool: runs the seeds it is sent, and ends when nobody sends any more. */
import { runBatch, type SeedRange } from './pool.js'

// Who ends the whole run wants its results: what is under way is finished, and nothing more is sent here then.
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
