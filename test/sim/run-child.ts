/** A process of the pool: runs the seeds it is sent, and ends when nobody sends any more. */
import { runBatch, type SeedRange } from './pool.js'

process.on('message', (range: SeedRange) => {
  runBatch(range).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    },
  )
})
