import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'

/** A worker that answers when its supervisor is gone, and has something left to do then. */
const WORKER = `
  import { listenToSupervisor } from '${new URL('../../../src/transport/supervisor/ipc.js', import.meta.url)}'
  const gone = new Promise((resolve) => process.once('disconnect', resolve))
  listenToSupervisor(process, { levels: () => gone.then(() => ({})), metrics: () => ({}), reload: () => null }, {})
  gone.then(() => setTimeout(() => console.log('drained'), 100))
`

t.test('an answer to a supervisor that is gone does not end the worker', async (t) => {
  const worker = spawn(process.execPath, ['--input-type=module', '-e', WORKER], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const { stdout } = worker
  if (!stdout) throw new Error('it has one')
  let output = ''
  stdout.on('data', (chunk: Buffer) => {
    output += chunk
  })
  const ended = once(worker, 'exit')
  const told = once(stdout, 'end')
  worker.send({ ask: 'metrics', id: 1 })
  t.same((await once(worker, 'message'))[0], { answer: 1, value: {} }, 'it listens')
  worker.send({ ask: 'levels', id: 2 }, () => worker.disconnect())
  t.same(await ended, [0, null])
  await told
  t.equal(output.trim(), 'drained')
})
