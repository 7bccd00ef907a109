/** Node 20 never ends a process that resets a half-closed socket. reset() avoids that. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const RESET = fileURLToPath(new URL('../../bench/generator/reset.js', import.meta.url))

/** A program that connects to itself, half-closes the connection or not, and resets it. It should then end. */
const program = (halfCloses: boolean) => `
  import { connect, createServer } from 'node:net'
  import { reset } from ${JSON.stringify(RESET)}
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1', () => {
    const socket = connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      if (${halfCloses}) socket.end()
      reset(socket)
      server.close()
    })
    socket.on('error', (error) => console.log(error.code))
    socket.on('close', () => console.log('closed'))
  })
  server.on('connection', (socket) => socket.resume().on('error', () => console.log('reset')))`

for (const halfCloses of [false, true]) {
  t.test(`a ${halfCloses ? 'half closed' : 'whole'} connection is reset, and the process ends`, async (t) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program(halfCloses)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    let output = ''
    child.stdout.on('data', (bytes: Buffer) => {
      output += bytes.toString()
    })
    const [code] = await once(child, 'close')
    t.equal(code, 0)
    t.match(output, /closed/)
    t.notMatch(output, /EINVAL/)
    if (!halfCloses) t.match(output, /reset/, 'the other end gets a reset')
  })
}
