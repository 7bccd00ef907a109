/**
 * Keys of all kinds are exchanged while two cores and two transports serve, each with its own copy of the keyring. No
 * request and no device is refused, although each process reads its copy at another moment.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { LocalSystem } from '../../bench/system/local-system.js'
import { environmentOf } from '../../bench/system/settings.js'
import type { Credential } from '../../protocol/frame-types.js'
import { readKeyring, writeTransportKeys } from '../../src/cli/keyring-file.js'
import { claimPorts } from '../../src/cli/start/ports.js'
import { systemClock } from '../../src/clock.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import { openClient } from '../../src/device/index.js'
import { KEY_KINDS } from '../../src/keyring.js'
import { endWithParent } from '../../src/nats/server/end-with-parent.js'
import { readKeyringReaders } from '../../src/store/keyring-readers.js'
import { until } from '../support/api.js'
import { borealis, run } from '../support/instance.js'
import { RawDevice } from '../support/raw-device.js'

t.setTimeout(400_000)

const DEVICES = 4

t.test('no request and no device is refused while keys of all kinds are exchanged', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-rotation-'))
  const system = await LocalSystem.start({ folder: join(folder, 'system'), parts: [] })
  const any = { host: '127.0.0.1', port: 0, setting: '', variable: '' }
  const [coreOne = 0, coreTwo = 0, transportOne = 0, transportTwo = 0] = await claimPorts([any, any, any, any])
  const [cores, transports] = [
    [coreOne, coreTwo],
    [transportOne, transportTwo],
  ]
  // Each process has a machine of its own. The operator changes the keyring on that of the first core.
  const keyringOf = (core: number) => join(folder, `core-${core}.json`)
  const extractOf = (transport: number) => join(folder, `transport-${transport}.json`)
  const first = keyringOf(0)
  const bring = () => {
    copyFileSync(first, keyringOf(1))
    for (const index of transports.keys()) writeTransportKeys(extractOf(index), readKeyring(first))
  }
  copyFileSync(system.config.keyring.file, first)
  bring()
  const children = await Promise.all([
    ...cores.map((port, index) => startPart('core', { http: { port }, keyring: { file: keyringOf(index) } })),
    ...transports.map((port, index) =>
      startPart('transport', {
        transport: { host: '127.0.0.1', port, workers: 1, instance: `t${index}` },
        keyring: { transportFile: extractOf(index) },
      }),
    ),
  ])
  t.teardown(async () => {
    for (const child of children) {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
    await system.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const admin = await system.brokerAs('admin')
  const tenants = openTenants(admin, systemClock)
  const { project } = await createProject(tenants, { id: 'shop', alg: 'ES256' })
  const { id: application } = await createApplication(tenants, project.id)
  const { enrolmentKey } = await createFleet(tenants, { name: 'tills' })
  const urlOf = (n: number) => `http://127.0.0.1:${cores[n % 2]}`
  const refusals: string[] = []
  const ask = async (n: number, path: string, bearer: string | null, body?: object) => {
    const response = await fetch(`${urlOf(n)}${path}`, {
      method: 'POST',
      headers: { ...(bearer && { authorization: `Bearer ${bearer}` }), 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    const answer = (await response.json()) as Record<string, unknown>
    if (!response.ok) refusals.push(`${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }

  // A registration of before, to which app servers send all the time.
  const client = await openClient({
    state: join(folder, 'device.state'),
    enrol: { url: urlOf(0), enrolmentKey },
    url: `ws://127.0.0.1:${transportOne}/v1/device`,
    random: Math.random,
  })
  t.teardown(() => client.close())
  client.connect()
  const { registrationId } = await client.register(application)

  let isLoading = true
  const counts = { pushes: 0, connects: 0 }
  /** App servers fetch their tokens anew, and use each on both cores. */
  const push = async () => {
    for (let n = 0; isLoading; n++) {
      const { token } = await mintToken(tenants, readKeyring(keyringOf(n % 2)), system.config.auth, project.id)
      for (const core of [0, 1]) {
        const message = { type: 'device', target: registrationId, ttl: '1h', notification: { title: `${n}` } }
        await ask(core, `/push/public/api/v1/projects/${project.id}/messages`, token, message)
        counts.pushes++
      }
      await sleep(20)
    }
  }
  /** A device renews its token at one core, and connects with the token and then with a ticket, each at another transport. */
  const connect = async (number: number) => {
    let { token } = (await ask(number, '/device/v1/enrol', null, { enrolmentKey })) as { token: string }
    let connection = 0
    let ticket: Uint8Array | null = null
    for (let n = number; isLoading; n++) {
      const credentials: Credential[] = [
        ...(ticket ? [{ kind: 'ticket' as const, ticket }] : []),
        { kind: 'token', token },
      ]
      for (const credential of credentials) {
        connection++
        try {
          const device = await RawDevice.open(transports[(n + connection) % 2] ?? 0)
          device.hello({ credential, connection })
          ticket = (await device.until('WELCOME')).ticket
          await device.until('CAUGHT_UP')
          device.cut()
          counts.connects++
        } catch (error) {
          refusals.push(`${credential.kind}: ${String(error)}`)
        }
      }
      token = ((await ask(n, '/device/v1/renew', token)) as { token: string }).token
      await sleep(100)
    }
  }
  const load = Promise.all([push(), ...Array.from({ length: DEVICES }, (_, number) => connect(number))])
  const progress = async () => {
    const { pushes, connects } = counts
    await until('the load goes on', () => counts.pushes > pushes + 20 && counts.connects > connects + 4 * DEVICES)
  }

  const { url, user, password } = system.natsAs('admin')
  const operator = environmentOf({ nats: { url, user, password }, keyring: { file: first } })
  const keyring = async (...words: string[]) => {
    const done = await run(['keyring', ...words, '--json'], operator)
    if (done.code !== 0) t.fail(`keyring ${words.join(' ')}: ${done.stderr}`)
    return JSON.parse(done.stdout) as Record<string, string>
  }
  /** The machine of the change first, and then the others. */
  const everywhere = async () => {
    await progress()
    bring()
    await keyring('reload')
    const { revision } = readKeyring(first).mark
    await until('all four have read it', async () => {
      const readers = await readKeyringReaders(admin)
      return readers.length === 4 && readers.every((reader) => reader.keyring?.revision === revision)
    })
    await progress()
  }

  await progress()
  for (const kind of KEY_KINDS) {
    await t.test(`a key of kind ${kind} is added, activated and retired`, async (t) => {
      const old = readKeyring(first).activeKid(kind)
      const { kid = '' } = await keyring('add', kind)
      await everywhere()
      await keyring('activate', kind, kid)
      await everywhere()
      const isEndless = kind === 'registration' || kind === 'secrets'
      await keyring('retire', kind, old, ...(isEndless ? [] : ['--void', '--yes']))
      await everywhere()
      const keys = readKeyring(keyringOf(1)).keys(kind)
      t.same(
        keys.map(({ kid, state }) => [kid, state]),
        [...(isEndless ? [[old, 'retired']] : []), [kid, 'active']],
      )
      t.same(refusals, [])
    })
  }
  isLoading = false
  await load
  t.same(refusals, [], `${counts.pushes} pushes, ${counts.connects} connects`)

  async function startPart(part: 'core' | 'transport', settings: Parameters<typeof environmentOf>[0]) {
    const { url, user, password } = system.natsAs(part)
    const environment = environmentOf({ ...settings, nats: { url, user, password }, log: { level: 'warn' } })
    const child = spawn(process.execPath, [borealis, part], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    endWithParent(child)
    await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => Promise.reject(new Error(`${part} did not start`))),
    ])
    return child
  }
})
