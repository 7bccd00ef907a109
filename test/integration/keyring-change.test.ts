/** `borealis keyring add`, `activate` and `retire`, with processes that have read the keyring and others that have not. */
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { deviceKey } from '../../protocol/subjects.js'
import { createKeyring, readKeyring } from '../../src/cli/keyring-file.js'
import { systemClock } from '../../src/clock.js'
import type { KeyKind, KeyringMark } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { encodeDeviceRecord, NO_DEVICE_RECORD } from '../../src/store/devices.js'
import { CoreReading } from '../../src/store/keyring-readers.js'
import { claimKeyring, readKeyringRecord } from '../../src/store/keyring-record.js'
import { WorkerLease } from '../../src/store/workers.js'
import { adminCli, type Output } from '../support/admin.js'
import { startNats } from '../support/nats.js'

t.setTimeout(180_000)

async function setUp(t: Test) {
  const nats = await startNats(t)
  const folder = t.testdir()
  const file = join(folder, 'keyring.json')
  createKeyring(file, Date.now())
  const { url, user, password } = nats.settingsAs('admin')
  const cli = adminCli(folder, { nats: { url, user, password }, keyring: { file } })
  const broker = await nats.brokerAs('core')
  await claimKeyring(broker, readKeyring(file), file, Date.now())
  const audit = async () => (await cli.json('audit', 'show')).entries as Output[]
  const keys = async (kind: KeyKind) =>
    readKeyring(file)
      .keys(kind)
      .map(({ kid, state }) => [kid, state])
  return { ...cli, nats, broker, file, folder, audit, keys, admin: await nats.brokerAs('admin') }
}

/** What running processes write, without the processes. `read` gives them the state of the file. */
async function startReaders(t: Test, core: Broker, transport: Broker, file: string) {
  const marks: Record<string, KeyringMark> = { core: readKeyring(file).mark, worker: readKeyring(file).mark }
  const onError = (error: unknown) => t.fail(String(error))
  const options = { run: 'run-1', host: 'one', pid: 11, mark: () => marks.core as KeyringMark, onError }
  const reading = new CoreReading(core, systemClock, options)
  const about = () => ({ host: 'two', pid: 22, keyring: marks.worker as KeyringMark })
  const lease = new WorkerLease(transport, systemClock, 'i', 'w', { lapse: () => {}, error: onError }, about)
  await Promise.all([reading.start(), lease.start()])
  t.teardown(() => Promise.all([reading.stop(), lease.release()]))
  return {
    read: async (which: 'core' | 'worker') => {
      marks[which] = readKeyring(file).mark
      await (which === 'core' ? reading : lease).tell()
    },
  }
}

t.test('a key signs only once every process that needs it has read it', async (t) => {
  const { keyring, file, nats, broker, audit, keys, admin } = await setUp(t)
  const { read } = await startReaders(t, broker, await nats.brokerAs('transport'), file)
  for (const [kind, parts] of [
    ['deviceToken', ['core', 'worker']],
    ['accessToken', ['core']],
    ['registration', ['core']],
    ['ticket', ['worker']],
    ['secrets', ['core']],
  ] as const) {
    const [[old = ''] = []] = await keys(kind)
    const { kid } = await keyring('add', kind)
    t.same(await keys(kind), [
      [kid, 'added'],
      [old, 'active'],
    ])
    for (const part of parts) {
      const place = part === 'core' ? 'core run-1 on one, process 11' : 'transport i.w on two, process 22'
      const message = new RegExp(`${place} has revision \\d+.*borealis keyring reload.*keyring_unread`)
      await t.rejects(keyring('activate', kind, kid), { message, exitCode: 1 }, `${kind}: ${part}`)
      await read(part)
    }
    await keyring('activate', kind, kid)
    t.same(await keys(kind), [
      [old, 'replaced'],
      [kid, 'active'],
    ])
    t.match((await audit()).slice(0, 2), [
      { action: 'keyring.activate', details: { kind, key: kid } },
      { action: 'keyring.add', details: { kind, key: kid } },
    ])
    t.match(await readKeyringRecord(admin), { record: { active: { [kind]: kid }, ...readKeyring(file).mark } })
    const retire = keyring('retire', kind, old, '--void', '--yes')
    await t.rejects(
      retire,
      { message: /may still sign with the old key.*keyring_unread/ },
      'it signs until it has read',
    )
    await Promise.all([read('core'), read('worker')])
    await keyring('retire', kind, old, '--void', '--yes')
    t.same(await keys(kind), [[kid, 'active']])
    t.match((await audit())[0], { action: 'keyring.retire', details: { kind, key: old, void: true } })
    await Promise.all([read('core'), read('worker')])
  }
})

t.test('an operator may activate a key that a process has not read, in so many words', async (t) => {
  const { keyring, file, nats, broker, audit, keys } = await setUp(t)
  await startReaders(t, broker, await nats.brokerAs('transport'), file)
  const { kid } = await keyring('add', 'ticket')
  await t.rejects(keyring('activate', 'ticket', kid), { message: /--force/ })
  await keyring('activate', 'ticket', kid, '--force')
  t.match((await keys('ticket')).at(-1), [kid, 'active'])
  t.match((await audit())[0], { action: 'keyring.activate', details: { force: true } })
})

t.test('a process that ended without a word is not waited for', async (t) => {
  const { keyring, broker } = await setUp(t)
  const record = { v: 1, id: 'x', revision: 0, host: 'gone', pid: 1, atMs: Date.now() }
  await broker.table('CORES').put('keyring.run-0', Buffer.from(JSON.stringify(record)))
  const { kid } = await keyring('add', 'accessToken')
  t.match(await keyring('activate', 'accessToken', kid), { state: 'active' })
  t.match((await keyring('status')).processes, [{ host: 'gone', isAlive: false, hasRead: false }])
})

t.test('a key whose tokens are valid still is retired with --void only', async (t) => {
  const { keyring, keys, audit } = await setUp(t)
  for (const kind of ['accessToken', 'deviceToken', 'ticket'] as const) {
    const [[old = ''] = []] = await keys(kind)
    const { kid } = await keyring('add', kind)
    await keyring('activate', kind, kid)
    const message = /signed is valid until 20\d\d-.*--void.*key_in_use/
    await t.rejects(keyring('retire', kind, old), { message, exitCode: 1 })
    await t.rejects(keyring('retire', kind, old, '--void'), { message: /is refused without it.*--yes/, exitCode: 2 })
    t.equal((await keys(kind)).length, 2, 'nothing has changed')
    t.match((await audit())[0], { action: 'keyring.activate' }, 'and nothing was written')
    t.match(await keyring('retire', kind, old, '--void', '--yes'), { removed: true })
    t.same(await keys(kind), [[kid, 'active']])
  }
  const { kid } = await keyring('add', 'ticket')
  t.match(await keyring('retire', 'ticket', kid), { removed: true }, 'an added key has signed nothing')
})

t.test('a retired registration key verifies, until the operator voids its ids and is told how many', async (t) => {
  const { keyring, keys, admin, audit } = await setUp(t)
  const [[old = ''] = []] = await keys('registration')
  const registration = (number: number, createdAtMs: number) => ({
    ...{ number, project: 'shop', application: 'app_a', user: '', channel: 'native' as const },
    ...{ createdAtMs, since: 0, addedVersion: 1 },
  })
  const devices = [
    ['dev_0123456789abcdefghij', [registration(1, Date.now()), registration(2, Date.now())]],
    ['dev_0123456789abcdefghik', [registration(1, Date.now()), registration(2, Date.now() + 3_600_000)]],
  ] as const
  for (const [device, registrations] of devices) {
    const record = { ...NO_DEVICE_RECORD, version: 1, nextNumber: 3, registrations: [...registrations] }
    await admin.table('DEVICES').put(deviceKey(device), encodeDeviceRecord(record))
  }
  const { kid } = await keyring('add', 'registration')
  await keyring('activate', 'registration', kid)
  t.match(await keyring('retire', 'registration', old), { removed: false })
  t.same(await keys('registration'), [
    [old, 'retired'],
    [kid, 'active'],
  ])
  await t.rejects(keyring('retire', 'registration', old, '--void'), {
    message: /voids the registrationIds of at most 3 registrations.*unknown_registration.*--yes/,
    exitCode: 2,
  })
  t.equal((await keys('registration')).length, 2)
  t.match(await keyring('retire', 'registration', old, '--void', '--yes'), { removed: true, voided: 3 })
  t.same(await keys('registration'), [[kid, 'active']])
  t.match((await audit())[0], { action: 'keyring.retire', details: { void: true, voided: 3 } })
})

t.test('a change starts from the latest state of the keyring only', async (t) => {
  const { keyring, file, folder, nats, audit } = await setUp(t)
  const copy = join(folder, 'copy.json')
  copyFileSync(file, copy)
  const { url, user, password } = nats.settingsAs('admin')
  const folderOf = (name: string) => {
    mkdirSync(join(folder, name))
    return join(folder, name)
  }
  const other = adminCli(folderOf('other'), { nats: { url, user, password }, keyring: { file: copy } })
  await keyring('add', 'ticket')
  const refused = { message: /copy\.json has revision 1 .* revision 2 is the latest.*keyring_outdated/ }
  await t.rejects(other.keyring('add', 'ticket'), refused)
  t.equal(readKeyring(copy).mark.revision, 1)
  // Two machines at once: one of them loses, and its file stays.
  copyFileSync(file, copy)
  const both = await Promise.allSettled([keyring('add', 'ticket'), other.keyring('add', 'ticket')])
  const won = both.filter(({ status }) => status === 'fulfilled').length
  t.equal(won, 1)
  t.match(
    both.find(({ status }) => status === 'rejected'),
    { reason: { message: /keyring_outdated/ } },
  )
  t.same([readKeyring(file).mark.revision, readKeyring(copy).mark.revision].sort(), [2, 3])
  const codes = (await audit()).map(({ failed }) => failed).filter(Boolean)
  t.ok(codes.length <= 1 && codes.every((code) => code === 'keyring_outdated'), 'the audit log says that it failed')
  const stranger = join(folder, 'stranger.json')
  createKeyring(stranger, Date.now())
  const strange = adminCli(folderOf('strange'), { nats: { url, user, password }, keyring: { file: stranger } })
  await t.rejects(strange.keyring('add', 'ticket'), { message: /keyring_mismatch/ })
})
