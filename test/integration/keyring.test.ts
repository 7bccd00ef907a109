/** The keyring of an installation, with the processes that use it. */
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LocalSystem, type SystemOptions } from '../../bench/system/local-system.js'
import { environmentOf } from '../../bench/system/settings.js'
import { createKeyring, prepareKeyring, readKeyring, writeTransportKeys } from '../../src/cli/keyring-file.js'
import { Keyring } from '../../src/keyring.js'
import { readKeyringReaders } from '../../src/store/keyring-readers.js'
import { readKeyringRecord } from '../../src/store/keyring-record.js'
import type { Output } from '../support/admin.js'
import { until } from '../support/api.js'
import { run } from '../support/instance.js'

t.setTimeout(180_000)

async function startSystem(t: Test, options: Partial<SystemOptions> = {}): Promise<LocalSystem> {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-keyring-'))
  const system = await LocalSystem.start({ folder: join(folder, 'system'), parts: ['core'], ...options })
  t.teardown(async () => {
    await system.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  return system
}

/** The environment of a process beside those of the system, on free ports. */
const environmentBeside = (
  system: LocalSystem,
  role: 'core' | 'transport' | 'admin',
  keyring: Record<string, string>,
) => {
  const { url, user, password } = system.natsAs(role)
  return environmentOf({
    nats: { url, user, password },
    http: { port: 0 },
    transport: { port: 0, workers: 1 },
    keyring,
  })
}

const ready = async (system: LocalSystem) => (await fetch(`${system.httpUrl}/readyz`)).status

t.test('a core and a transport without a keyring name the file, end with an error, and make none', async (t) => {
  const folder = t.testdir()
  const file = join(folder, 'keyring.json')
  const extract = join(folder, 'keys.json')
  const expected = { code: 1, stderr: new RegExp(`${file}.*borealis keyring init.*keyring_missing`) }
  t.match(await run(['core'], { BOREALIS_KEYRING_FILE: file }), expected)
  t.match(await run(['transport'], { BOREALIS_KEYRING_FILE: file }), expected)
  t.match(await run(['transport'], { BOREALIS_KEYRING_TRANSPORT_FILE: extract }), {
    code: 1,
    stderr: new RegExp(`${extract}.*borealis keyring extract.*keyring_missing`),
  })
  t.match(await run(['keyring', 'init'], { BOREALIS_KEYRING_FILE: file }), { code: 0, stdout: /keyring: [0-9a-f]{16}/ })
  t.ok(existsSync(file))
})

t.test('an installation with a keyring', async (t) => {
  const system = await startSystem(t)
  const admin = await system.brokerAs('admin')
  const { id, revision } = system.keyring.mark
  const folder = t.testdir()
  const other = join(folder, 'other.json')
  const stranger = createKeyring(other, Date.now())
  const strange = join(folder, 'strange-extract.json')
  writeTransportKeys(strange, stranger)

  await t.test('the first core stores the id and the revision of its keyring', async (t) => {
    t.match(await readKeyringRecord(admin), { record: { id, revision } })
  })

  await t.test(
    'a process with another keyring ends with an error that names both, and the core stays ready',
    async (t) => {
      const expected = {
        code: 1,
        stderr: new RegExp(`has keyring ${id}, and .* has keyring ${stranger.id}.*keyring adopt.*keyring_mismatch`),
      }
      t.match(await run(['core'], environmentBeside(system, 'core', { file: other })), expected)
      t.match(await run(['transport'], environmentBeside(system, 'transport', { file: other })), expected)
      t.match(await run(['transport'], environmentBeside(system, 'transport', { transportFile: strange })), expected)
      const asAdmin = environmentBeside(system, 'admin', { file: other })
      t.match(await run(['admin', 'token', 'mint', '--project', 'shop'], asAdmin), expected)
      t.match(await run(['admin', 'registration', 'revoke', 'x'], asAdmin), expected)
      t.match(await readKeyringRecord(admin), { record: { id, revision } })
      t.equal(await ready(system), 200)
    },
  )

  await t.test('a process whose file lacks the active key ends with an error', async (t) => {
    const old = readKeyring(system.config.keyring.file)
    const file = join(folder, 'old.json')
    prepareKeyring(file, old).put()
    const extract = join(folder, 'old-extract.json')
    writeTransportKeys(extract, old)
    const changed = old.copy()
    changed.activate('ticket', changed.add('ticket', 1), 1)
    prepareKeyring(system.config.keyring.file, changed).put()
    const asAdmin = environmentBeside(system, 'admin', { file: system.config.keyring.file })
    t.match(await run(['keyring', 'adopt'], asAdmin), { code: 0 }, 'a later state of the same keyring needs no --yes')
    const expected = { code: 1, stderr: /lacks the ticket key .*copy the newest file.*keyring_outdated/ }
    t.match(await run(['core'], environmentBeside(system, 'core', { file })), expected)
    t.match(await run(['transport'], environmentBeside(system, 'transport', { transportFile: extract })), expected)
  })

  await t.test('another keyring is adopted only with --yes, and the audit log names both', async (t) => {
    const asAdmin = environmentBeside(system, 'admin', { file: other })
    t.match(await run(['keyring', 'adopt'], asAdmin), { code: 2, stderr: /voids everything.*--yes/ })
    t.match(await readKeyringRecord(admin), { record: { id } })
    t.match(await run(['keyring', 'adopt', '--yes'], asAdmin), { code: 0 })
    t.match(await readKeyringRecord(admin), { record: { id: stranger.id } })
    const audit = await run(['admin', 'audit', 'show', '--json'], asAdmin)
    t.match(JSON.parse(audit.stdout).entries[0], {
      action: 'keyring.adopt',
      details: { keyring: stranger.id, replaced: id },
    })
    const file = system.config.keyring.file
    t.match(await run(['core'], environmentBeside(system, 'core', { file })), { code: 1, stderr: /keyring_mismatch/ })
  })
})

t.test('running processes and a changed keyring', async (t) => {
  const lines: string[] = []
  const system = await startSystem(t, {
    ...{ parts: ['core', 'transport'], cores: 2, settings: { transport: { workers: 2 } } },
    onLine: (_part, line) => lines.push(line),
  })
  const { file } = system.config.keyring
  const asAdmin = environmentBeside(system, 'admin', { file })
  const admin = await system.brokerAs('admin')
  const revisions = async () => (await readKeyringReaders(admin)).map(({ keyring }) => keyring?.revision ?? null)
  const change = () => {
    const keyring = readKeyring(file)
    keyring.add('ticket', Date.now())
    prepareKeyring(file, keyring).put()
    return keyring.mark.revision
  }
  const { revision } = system.keyring.mark

  await t.test('status shows each process with the revision that it has read', async (t) => {
    const { stdout } = await run(['keyring', 'status', '--json'], asAdmin)
    const { processes, installation } = JSON.parse(stdout) as { processes: Output[]; installation: Output }
    t.same(installation, { keyring: system.keyring.id, revision })
    t.same(processes.map(({ part }) => part).sort(), ['core', 'core', 'transport', 'transport'])
    for (const reader of processes) t.match(reader, { host: hostname(), revision, hasRead: true, isAlive: true })
    t.same(processes.map(({ pid }) => pid).sort(), [...system.pids('core'), ...system.pids('worker')].sort())
    t.match((await run(['keyring', 'status'], asAdmin)).stdout, /has read it/)
  })

  await t.test(
    'at SIGHUP a core reads the keyring, and a transport with its workers, but no other process',
    async (t) => {
      const next = change()
      process.kill(system.pids('core')[0] ?? 0, 'SIGHUP')
      const readers = async () => (await revisions()).filter((read) => read === next).length
      await until('one core has read it', async () => (await readers()) === 1)
      process.kill(system.pids('transport')[0] ?? 0, 'SIGHUP')
      await until('both workers have read it', async () => (await readers()) === 3)
      t.same(
        (await revisions()).filter((read) => read !== next),
        [revision],
        'the other core has not read it',
      )
    },
  )

  await t.test('at the notice of `borealis keyring reload` each process reads the keyring', async (t) => {
    const next = change()
    t.match(await run(['keyring', 'reload'], asAdmin), { code: 0 })
    await until('all have read it', async () => (await revisions()).every((read) => read === next))
    t.equal((await revisions()).length, 4)
  })

  await t.test('a file that is broken, missing or another keyring leaves the keys in use, and is logged', async (t) => {
    const good = readKeyring(file)
    const failures = () => lines.filter((line) => line.includes('the present keys stay in use')).length
    for (const [index, spoil] of [
      () => writeFileSync(file, '{'),
      () => rmSync(file),
      () => void createKeyring(file, Date.now()),
      () => chmodSync(file, 0o644),
    ].entries()) {
      spoil()
      t.match(await run(['keyring', 'reload'], asAdmin), { code: 0 })
      await until('each process logs it', () => failures() === 4 * (index + 1))
    }
    rmSync(file)
    prepareKeyring(file, good).put()
    t.equal(await ready(system), 200)
    t.equal(system.pids('worker').length, 2)
    t.ok((await revisions()).every((read) => read === good.mark.revision))
    const next = change()
    t.match(await run(['keyring', 'reload'], asAdmin), { code: 0 })
    await until('all read the good file', async () => (await revisions()).every((read) => read === next))
  })

  await t.test('a process that was killed is shown as silent', async (t) => {
    const [pid = 0] = system.pids('worker')
    process.kill(pid, 'SIGKILL')
    await until('another worker is there', async () => (await revisions()).length === 5)
    const silent = async () => {
      const { stdout } = await run(['keyring', 'status', '--json'], asAdmin)
      const { processes } = JSON.parse(stdout) as { processes: Output[] }
      return processes.filter(({ isAlive }) => !isAlive).map((one) => one.pid)
    }
    await until('its signs of life are old', async () => (await silent()).length > 0)
    t.same(await silent(), [pid])
  })
})

t.test('a transport with an extract of release 0.1 starts: its keyring cannot be compared', async (t) => {
  const extract = join(t.testdir(), 'keys.json')
  const { keyring: _, ...keys } = Keyring.generate(1).transportKeys()
  writeFileSync(extract, JSON.stringify(keys), { mode: 0o600 })
  const lines: string[] = []
  const system = await startSystem(t, {
    parts: ['core', 'transport'],
    settings: { keyring: { transportFile: extract } },
    onLine: (_part, line) => lines.push(line),
  })
  t.ok(system.pids('worker').length > 0)
  t.ok(lines.some((line) => line.includes('make it anew')))
})
