import t from 'tap'
import { Limiter } from '../../../src/transport/limiter.js'

t.test('at most the given number of jobs run at once, also after one of them failed', async (t) => {
  const limiter = new Limiter(2)
  let running = 0
  let runningMost = 0
  const job = async () => {
    runningMost = Math.max(runningMost, ++running)
    await new Promise((resolve) => setImmediate(resolve))
    running--
  }
  await Promise.all(Array.from({ length: 7 }, () => limiter.run(job)))
  await t.rejects(limiter.run(() => Promise.reject(new Error('no'))))
  await limiter.run(job)
  t.equal(runningMost, 2)
})
