/** `borealis config check --start PART` finds what a start of that part would find, and starts nothing. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { Part } from '../../src/cli/config-check.js'
import { createKeyring } from '../../src/cli/keyring-file.js'
import { startNats, type TestRole } from '../support/nats.js'

t.setTimeout(120_000)

const program = resolve('dist/src/cli.js')

/** Runs the check in an installation that a core and a transport can start in, with `settings` on top. */
async function open(t: Test) {
  const nats = await startNats(t)
  const keyring = join(t.testdir(), 'keyring.json')
  createKeyring(keyring, Date.now())
  return async (part: Part, settings: Record<string, string> = {}, role: TestRole = part) => {
    const { url, user, password } = nats.settingsAs(role)
    const own = {
      ...{ BOREALIS_NATS_URL: url, BOREALIS_NATS_USER: user, BOREALIS_NATS_PASSWORD: password },
      ...{ BOREALIS_HTTP_PORT: '0', BOREALIS_TRANSPORT_PORT: '0', BOREALIS_KEYRING_FILE: keyring },
    }
    const run = promisify(execFile)(process.execPath, [program, 'config', 'check', '--start', part], {
      env: { PATH: process.env.PATH, ...own, ...settings },
    })
    return run.then(
      ({ stdout }) => ({ code: 0, text: stdout }),
      ({ code, stderr }) => ({ code: code as number, text: stderr as string }),
    )
  }
}

t.test('a part that can start is said to', async (t) => {
  const check = await open(t)
  t.match(await check('core'), { code: 0, text: /a core can start/ })
  t.match(await check('transport'), { code: 0, text: /a transport can start/ })
})

t.test('every reason is named at once, with the next move', async (t) => {
  const check = await open(t)
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = String(typeof address === 'object' ? address?.port : 0)
  const { code, text } = await check(
    'core',
    { BOREALIS_HTTP_PORT: port, BOREALIS_KEYRING_FILE: join(t.testdir(), 'none.json') },
    'publisher',
  )
  t.equal(code, 1)
  t.match(text, new RegExp(`${port}.*http\\.port.*BOREALIS_HTTP_PORT`))
  t.match(text, /none\.json/)
  t.match(text, /NATS user publisher may not do what a core needs/)
})

t.test('a transport names a certificate that cannot be read, and a nats-server that does not answer', async (t) => {
  const check = await open(t)
  const settings = { BOREALIS_TRANSPORT_TLS_CERTIFICATE: '/none.pem', BOREALIS_TRANSPORT_TLS_KEY: '/none.key' }
  t.match(await check('transport', settings), { code: 1, text: /\/none\.pem/ })
  const away = { BOREALIS_NATS_URL: 'nats://127.0.0.1:1', BOREALIS_NATS_CONNECT_TIMEOUT_MS: '300' }
  t.match(await check('transport', away), { code: 1, text: /did not answer for 300 ms/ })
})
