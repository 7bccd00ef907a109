import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'

/** A worker that answers a request after its supervisor is gone, and still has work to do then. */
const WORKER = `
  import { listenToSupervisor } from '${new URL('../../../src/transport/supervisor/ipc.js', import.meta.url)}'
  const gone = new Promise((resolve) => process.once('disconnect', resolve))
  listenToSupervisor(process, { levels: () => gone.then(() => ({})), metrics: () => ({}), reload: () => null }, {})
  gone.then(() => setTimeout(() => console.log('drained'), 100))
`

t.test('a worker that answers after its supervisor is gone drains and exits with code 0', async (t) => {
  const worker = spawn(process.execPath, ['--input-type=module', '-e', WORKER], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const { stdout } = worker
  if (!stdout) throw new Error('the worker has no stdout')
  let output = ''
  stdout.on('data', (chunk: Buffer) => {
    output += chunk
  })
  const ended = once(worker, 'exit')
  const outputEnded = once(stdout, 'end')
  worker.send({ ask: 'metrics', id: 1 })
  t.same((await once(worker, 'message'))[0], { answer: 1, value: {} }, 'the worker answers its supervisor')
  worker.send({ ask: 'levels', id: 2 }, () => worker.disconnect())
  t.same(await ended, [0, null])
  await outputEnded
  t.equal(output.trim(), 'drained')
})
