/**
 * A backup under load, then more traffic, the loss of the whole store, a restore into an empty one, and the return of the
 * devices: no message that was accepted before the backup began is lost.
 */
import { spawn } from 'node:child_process'
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { LocalSystem } from '../../bench/system/local-system.js'
import { environmentOf } from '../../bench/system/settings.js'
import type { Manifest } from '../../src/cli/backup/manifest.js'
import type { Restored } from '../../src/cli/backup/restore.js'
import { createKeyring, prepareKeyring } from '../../src/cli/keyring-file.js'
import { systemClock } from '../../src/clock.js'
import { decodeRegistrationId } from '../../src/core/domain/registration-id.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import { type BorealisClient, openClient } from '../../src/device/index.js'
import { readStoreFormat, STORE_FORMAT, writeStoreFormat } from '../../src/store/format.js'
import { readKeyringRecord } from '../../src/store/keyring-record.js'
import { borealis } from '../support/instance.js'

// The test starts three systems one after the other, on a machine that may be busy.
t.setTimeout(300_000)

const DEVICES = 12
const PUSHES_PER_SECOND = 60
const settings = { transport: { workers: 2 }, store: { queueBytesMax: 64 * 2 ** 20 } }

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs a command as the NATS user `admin` of a system. It gets `until.signal` once its output matches `until.text`. */
function runCommand(
  system: LocalSystem,
  args: string[],
  until?: { text: RegExp; signal: NodeJS.Signals },
): Promise<Ended> {
  const { url, user, password } = system.natsAs('admin')
  const child = spawn(process.execPath, [borealis, ...args], {
    env: {
      ...process.env,
      ...environmentOf({ nats: { url, user, password }, keyring: { file: system.config.keyring.file } }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let isSignalled = false
  const ended: Ended = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text) => {
    ended.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    ended.stderr += text
    if (until?.text.test(ended.stderr) && !isSignalled) isSignalled = child.kill(until.signal)
  })
  return new Promise((resolve) => {
    child.once('close', (code) => resolve({ ...ended, code }))
  })
}

t.test('a system that is backed up under load, loses its store and is restored', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-backup-'))
  const systems: LocalSystem[] = []
  const clients: BorealisClient[] = []
  t.teardown(async () => {
    await Promise.all(clients.map((client) => client.close()))
    for (const system of systems) await system.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  const first = await LocalSystem.start({ folder: join(folder, 'first'), settings })
  systems.push(first)
  const ports = {
    http: { port: first.config.http.port },
    transport: { ...settings.transport, port: first.config.transport.port },
  }
  const admin = await first.brokerAs('admin')
  const tenants = openTenants(admin, systemClock)
  const { project } = await createProject(tenants, { id: 'shop', alg: 'ES256' })
  const application = (await createApplication(tenants, project.id)).id
  const later = (await createApplication(tenants, project.id)).id
  const { enrolmentKey } = await createFleet(tenants, { name: 'tills' })
  const auth = { ...first.config.auth, accessTokenSeconds: 3_600 }
  const { token } = await mintToken(tenants, first.keyring, auth, project.id)

  const seen = new Map<string, number>()
  const gaps: string[] = []
  const open = async (number: number) => {
    const client = await openClient({
      state: join(folder, `device-${number}.state`),
      enrol: { url: first.httpUrl, enrolmentKey },
      url: `ws://127.0.0.1:${ports.transport.port}/v1/device`,
      settings: { fsync: 'never', reconnectBaseMs: 100, reconnectCapMs: 500 },
      random: Math.random,
    })
    clients.push(client)
    client.on('notification', ({ id }) => {
      const key = `${number}/${id}`
      seen.set(key, (seen.get(key) ?? 0) + 1)
    })
    client.on('gap', ({ reason }) => gaps.push(`${number}/${reason}`))
    const caughtUp = new Promise((resolve) => client.once('caughtUp', resolve))
    client.connect()
    await caughtUp
    return client
  }
  const devices = await Promise.all(Array.from({ length: DEVICES }, (_, number) => open(number)))
  const ids: string[] = []
  for (const device of devices) ids.push((await device.register(application)).registrationId)

  const ask = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${first.httpUrl}/push/public/api/v1/projects/${project.id}/${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const notification = { title: 'T', message: 'M' }
  const accepted: { id: string; device: number; atMs: number }[] = []
  const push = async (device: number, registrationId = ids[device]) => {
    const message = { type: 'device', target: registrationId, ttl: '1h', notification }
    const answer = await ask('POST', 'messages', message).catch(() => null)
    if (answer?.status === 202) accepted.push({ id: String(answer.body.id), device, atMs: Date.now() })
    return answer
  }
  const toAll = async () => {
    const answer = await ask('POST', 'messages', { type: 'application', target: application, ttl: '1h', notification })
    if (answer.status !== 202) throw new Error(`${answer.status} instead of 202: ${JSON.stringify(answer.body)}`)
    return String(answer.body.id)
  }

  // Each third device is away, so its messages wait in its queue.
  const away = devices.filter((_, number) => number % 3 === 0)
  await Promise.all(away.map((device) => device.close()))
  const earlier = await toAll()
  let isLoading = true
  const load = (async () => {
    for (let n = 0; isLoading; n++) {
      await Promise.all([push(n % DEVICES), sleep(1_000 / PUSHES_PER_SECOND)])
    }
  })()
  await sleep(2_500)
  const startedAtMs = Date.now()
  const backup = join(folder, 'backup')
  const created = await runCommand(first, ['backup', backup, '--json'])
  if (created.code !== 0) throw new Error(created.stderr)
  const manifest = JSON.parse(created.stdout) as Manifest
  const held = accepted.filter(({ atMs }) => atMs < startedAtMs)

  await t.test('the backup has a snapshot of each stream, and prints its progress', async (t) => {
    t.ok(held.length > 50, `${held.length} messages were accepted before the backup`)
    t.ok(manifest.streams.length > 20 && manifest.streams.every(({ snapshot }) => snapshot.bytes > 0))
    t.match(created.stderr, /EVENTS_3, \d+ records/)
  })

  await t.test('the backup has the keyring with mode 0600, and warns of it', async (t) => {
    t.match(created.stderr, /WARNING: .*keyring.json/)
    t.equal(statSync(join(backup, 'keys/keyring.json')).mode & 0o777, 0o600)
  })

  await t.test('a backup into a folder that is not empty is refused', async (t) => {
    t.equal((await runCommand(first, ['backup', backup])).code, 1)
  })

  // The backup lacks these: more messages, another application on a device, and the return of two absent devices.
  await Promise.all([open(0), open(3)])
  const added = await (devices[1] as BorealisClient).register(later)
  for (let n = 0; n < 3; n++) await toAll()
  await sleep(1_500)
  isLoading = false
  await load

  await t.test('a restore is refused while a core or a transport runs on the store', async (t) => {
    const running = await runCommand(first, ['restore', backup, '--replace'])
    t.match(running, { code: 1, stderr: /a core or a transport runs on this store: stop all of them/ })
  })
  await first.stop()

  // A new machine: nats-server is empty, and there is no keyring.
  const empty = await LocalSystem.start({ folder: join(folder, 'second'), parts: [], settings })
  systems.push(empty)
  rmSync(empty.config.keyring.file)
  await t.test(
    'a damaged or unsuitable backup, or one of another keyring, is refused; the store stays empty',
    async (t) => {
      const spoilt = join(folder, 'spoilt')
      cpSync(backup, spoilt, { recursive: true })
      appendFileSync(join(spoilt, 'EVENTS_0.snapshot'), 'x')
      t.match(await runCommand(empty, ['restore', spoilt]), {
        code: 1,
        stderr: /EVENTS_0.snapshot is damaged: its checksum/,
      })
      writeFileSync(
        join(spoilt, 'manifest.json'),
        JSON.stringify({ ...manifest, store: { ...manifest.store, split: 8 } }),
      )
      t.match(await runCommand(empty, ['restore', spoilt]), {
        code: 1,
        stderr: /store.split 8: set store.split to this value/,
      })
      writeFileSync(join(spoilt, 'manifest.json'), JSON.stringify({ ...manifest, format: 99 }))
      t.match(await runCommand(empty, ['restore', spoilt]), { code: 1, stderr: /a backup of format 99/ })
      rmSync(join(spoilt, 'manifest.json'))
      t.match(await runCommand(empty, ['restore', spoilt]), { code: 1, stderr: /not a complete backup/ })
      createKeyring(empty.config.keyring.file, 1)
      t.match(await runCommand(empty, ['restore', backup]), {
        code: 1,
        stderr: /is another keyring .* than that of the backup/,
      })
      rmSync(empty.config.keyring.file)
      t.equal(await readStoreFormat(await empty.brokerAs('admin')), null)
    },
  )
  await t.test('a restore into an empty store writes the streams and the keyring', async (t) => {
    const restored = await runCommand(empty, ['restore', backup, '--json'])
    t.equal(restored.code, 0, restored.stderr)
    const result = JSON.parse(restored.stdout) as Restored
    t.equal(result.keyring, 'written')
    t.same(readFileSync(empty.config.keyring.file), readFileSync(join(backup, 'keys/keyring.json')))
    t.match(await readKeyringRecord(await empty.brokerAs('admin')), { record: first.keyring.mark })
  })

  // The keyring is changed after the backup.
  const changed = first.keyring.copy()
  changed.add('ticket', Date.now())
  prepareKeyring(empty.config.keyring.file, changed).put()

  await t.test('a restore into a store with data is refused without --replace', async (t) => {
    t.match(await runCommand(empty, ['restore', backup]), { code: 1, stderr: /the store has data: .*add --replace/s })
  })

  await t.test(
    'a restore that gets SIGTERM stops in order, and leaves the mark of an incomplete restore',
    async (t) => {
      t.match(await runCommand(empty, ['restore', backup, '--replace'], { text: /^3 of/m, signal: 'SIGTERM' }), {
        code: 1,
        stderr: /stopping\n.*(stopped half way|borealis restore)/s,
      })
      t.match(await readStoreFormat(await empty.brokerAs('admin')), { restoring: true })
    },
  )

  await t.test('the repeated restore completes', async (t) => {
    const repeated = await runCommand(empty, ['restore', backup, '--replace'])
    t.equal(repeated.code, 0, repeated.stderr)
    t.match(await readStoreFormat(await empty.brokerAs('admin')), { restoring: false, restores: 3 })
  })
  await empty.stop()

  const second = await LocalSystem.start({ folder: join(folder, 'second'), settings: { ...settings, ...ports } })
  systems.push(second)
  /** Polls for up to a minute. */
  const becomesTrue = async (condition: () => Promise<boolean> | boolean): Promise<boolean> => {
    for (const deadlineMs = Date.now() + 60_000; !(await condition()); await sleep(200)) {
      if (Date.now() > deadlineMs) return false
    }
    return true
  }
  const connected = await Promise.all(
    devices.map((device, number) => (number % 3 === 0 && number > 3 ? open(number) : Promise.resolve(device))),
  )
  t.equal(connected.length, DEVICES)

  await t.test('each message of the backup reaches its device', async (t) => {
    const missing = () => held.filter(({ id, device }) => !seen.has(`${device}/${id}`))
    t.ok(await becomesTrue(() => missing().length === 0), `${missing().length} are missing`)
  })

  await t.test('each target of the backup ends, and the status of its message is delivered', async (t) => {
    const pendingCount = async () => {
      const { total } = (await ask('GET', 'counters')).body as { total: Record<string, number> }
      const { accepted = 0, pending: _pending, ...finals } = total
      return accepted - Object.values(finals).reduce((sum, count) => sum + count, 0)
    }
    t.ok(await becomesTrue(async () => (await pendingCount()) === 0), `${await pendingCount()} are pending`)
    const statuses = await Promise.all(
      held.slice(0, 40).map(async ({ id }) => (await ask('GET', `messages/${id}`)).body.status),
    )
    t.same([...new Set(statuses)], ['delivered'])
  })

  await t.test(
    'group messages from before the backup and from after the restore reach all devices, with a GAP',
    async (t) => {
      const reachesAll = (id: string) => becomesTrue(() => devices.every((_, number) => seen.has(`${number}/${id}`)))
      t.ok(await reachesAll(earlier), 'from before the backup')
      t.ok(await reachesAll(await toAll()), 'from after the restore, although the log had more records once')
      t.ok(gaps.some((gap) => gap.endsWith('log_reset')))
    },
  )

  await t.test(
    'a registration made after the backup gets another registrationId, with a number never used',
    async (t) => {
      const renewed = () =>
        devices[1]?.registrations.find(({ application }) => application === later)?.registrationId ?? ''
      t.ok(await becomesTrue(() => Boolean(renewed() && renewed() !== added.registrationId)))
      t.ok((decodeRegistrationId(second.keyring.registrationKeys, renewed())?.registration ?? 0) > 10_000)
      t.equal((await push(1, renewed()))?.status, 202)
      t.ok(await becomesTrue(() => seen.has(`1/${accepted.at(-1)?.id}`)), 'a push to it arrives')
    },
  )

  await t.test('no app gets a message twice', async (t) => {
    t.same(
      [...seen].filter(([, times]) => times > 1),
      [],
    )
  })

  const core = await second.brokerAs('core')
  await t.test('a core and a transport refuse a store of a newer format', async (t) => {
    const format = await readStoreFormat(core)
    if (format === null) return t.fail('the store has no format')
    await writeStoreFormat(core, { ...format, format: STORE_FORMAT + 1, writtenBy: '9.0.0' })
    for (const part of ['core', 'transport'] as const) {
      const { url, user, password } = second.natsAs(part)
      const own = environmentOf({
        nats: { url, user, password },
        http: { port: 0 },
        transport: { port: 0, workers: 1 },
        keyring: { file: second.config.keyring.file },
      })
      const worker = part === 'transport' ? ['--worker', '0'] : []
      const child = spawn(process.execPath, [borealis, part, ...worker], {
        env: { ...process.env, ...own },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let text = ''
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (more) => {
          text += more
        })
      }
      t.not(await new Promise((resolve) => child.once('close', resolve)), 0)
      t.match(text, /format 2, written by Borealis 9\.0\.0.*start Borealis 9\.0\.0 or newer/s, part)
    }
    await writeStoreFormat(core, format)
  })
})
