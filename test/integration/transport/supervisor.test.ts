import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Value } from 'typebox/value'
import { systemClock } from '../../../src/clock.js'
import { Keyring } from '../../../src/keyring.js'
import { silentLogger } from '../../../src/observe/log.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import { freePort, startSupervisor, workerCount } from '../../../src/transport/supervisor/supervisor.js'
import { startNats } from '../../support/nats.js'
import { RawDevice } from '../../support/raw-device.js'

const defaults = Value.Default(TransportSettings, {}) as TransportSettings

t.test(
  'the number of workers is the setting, or else enough for connectionsTarget but at least one for each CPU',
  async (t) => {
    const settings = { ...defaults, connectionsTarget: 100_000 }
    t.equal(workerCount(settings, 2, 18_000), 8)
    t.equal(workerCount({ ...settings, connectionsTarget: 10 }, 4, 18_000), 4)
    t.equal(workerCount({ ...settings, workers: 3 }, 4, 18_000), 3)
  },
)

t.test('freePort refuses a port in use, which uWebSockets.js would share', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const address = other.address()
  const port = typeof address === 'object' && address ? address.port : 0
  await t.rejects(freePort('127.0.0.1', port), { message: /EADDRINUSE/ })
})

t.test('a supervisor with two workers', async (t) => {
  const nats = await startNats(t)
  const folder = mkdtempSync(join(tmpdir(), 'borealis-supervisor-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const keyring = Keyring.generate(Date.now())
  const keys = join(folder, 'keys.json')
  writeFileSync(keys, JSON.stringify(keyring.transportKeys()), { mode: 0o600 })
  const as = nats.settingsAs('transport')
  const children: ChildProcess[] = []
  const spawned = new Map<number, () => void>()
  const supervisor = await startSupervisor({
    settings: { ...defaults, host: '127.0.0.1', port: 0, workers: 2, restartBackoffMs: 50 },
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    spawn: (index, port) => {
      const child = spawn(
        process.execPath,
        [fileURLToPath(new URL('../../../src/cli.js', import.meta.url)), 'transport', '--worker', String(index)],
        {
          stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
          env: {
            ...process.env,
            BOREALIS_LOG_LEVEL: 'error',
            BOREALIS_NATS_URL: nats.url,
            BOREALIS_NATS_USER: as.user,
            BOREALIS_NATS_PASSWORD: as.password,
            BOREALIS_KEYRING_TRANSPORT_FILE: keys,
            BOREALIS_TRANSPORT_HOST: '127.0.0.1',
            BOREALIS_TRANSPORT_PORT: String(port),
          },
        },
      )
      children.push(child)
      spawned.get(children.length)?.()
      return child
    },
  })
  t.equal(supervisor.workers, 2)

  await t.test('starts a killed worker again with the same index', async (t) => {
    const [first] = children
    if (!first) throw new Error('two processes were expected')
    const thirdSpawned = new Promise<void>((resolve) => spawned.set(3, resolve))
    first.kill('SIGKILL')
    await thirdSpawned
    const third = children[2]
    if (!third) throw new Error('three processes were expected')
    const [ready] = (await once(third, 'message')) as [{ ready: { worker: number } }]
    t.equal(ready.ready.worker, 0)
  })

  await t.test('accepts a connection, and refuses its wrong token', async (t) => {
    const raw = await RawDevice.open(supervisor.port)
    raw.hello({ credential: { kind: 'token', token: 'none' }, connection: 1 })
    t.match(await raw.closed, { code: 4010 })
  })

  await t.test('stops within seconds, because no device is connected, and ends both workers with code 0', async (t) => {
    const startedAtMs = Date.now()
    await supervisor.stop()
    t.ok(Date.now() - startedAtMs < 5_000)
    t.same(
      children.map(({ exitCode, signalCode }) => signalCode ?? exitCode),
      ['SIGKILL', 0, 0],
    )
  })
})
