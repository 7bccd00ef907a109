import { appendFile, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { BorealisClient } from '../../src/device/index.js'
import type { Change } from '../../src/device/state/state.js'
import { FileStateStore } from '../../src/device/state/state-file.js'
import type { StateStore } from '../../src/device/state/state-store.js'
import { notify } from './scripted-server.js'
import { FAST, IDENTITY, Inbox, KNOWN, server } from './support.js'

const SETTINGS = { seenMax: 100, journalBytesMax: 2_000, fsync: 'never' as const }
const now = () => 0

function open(path: string, settings: Partial<typeof SETTINGS> = {}): Promise<FileStateStore> {
  return FileStateStore.open(path, { ...SETTINGS, ...settings }, now)
}

function write(store: StateStore, ...changes: Change[]): Promise<void> {
  for (const change of changes) store.state.apply(change)
  return new Promise((resolve, reject) => store.write(changes, (error) => (error ? reject(error) : resolve())))
}

const seen = (id: number): Change => ({ kind: 'seen', id: BigInt(id), forgetAtMs: 9e12, cursorSequence: 0 })

t.test('what is written is there again, by journal and by snapshot', async (t) => {
  const path = join(t.testdir(), 'state')
  let store = await open(path)
  await write(store, { kind: 'identity', identity: IDENTITY }, { kind: 'connection', connection: 7 })
  for (let id = 1; id <= 200; id++) await write(store, seen(id))
  const { size } = await stat(path)
  t.ok(size < 100 * 80 + 2_000 + 500, `${size} bytes: the journal was folded into a snapshot`)
  await store.close()
  store = await open(path)
  t.equal(store.state.connection, 7)
  t.same(store.state.identity, IDENTITY)
  t.notOk(store.state.hasSeen(100n))
  t.ok(store.state.hasSeen(101n))
  t.ok(store.state.hasSeen(200n))
  await store.close()
  t.equal((await stat(path)).mode & 0o777, 0o600, 'it holds secrets')
  t.same(await readdir(join(path, '..')), ['state'], 'no lock and no half-written file stays')
})

t.test('writes confirm in order, and those of one turn go together', async (t) => {
  const store = await open(join(t.testdir(), 'state'), { journalBytesMax: 1e6 })
  const order: number[] = []
  const all = [1, 2, 3].map((id) => write(store, seen(id)).then(() => order.push(id)))
  await Promise.all(all)
  t.same(order, [1, 2, 3])
  await store.close()
  await t.rejects(write(store, seen(4)), { code: 'stopped' })
})

t.test('with fsync it works the same', async (t) => {
  const path = join(t.testdir(), 'state')
  const store = await FileStateStore.open(path, { ...SETTINGS, fsync: 'always' }, now)
  await write(store, seen(1))
  await store.close()
  const again = await open(path)
  t.ok(again.state.hasSeen(1n))
  await again.close()
})

t.test('an append that was cut off is left out, whatever its length', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'state')
  const store = await open(path)
  await write(store, seen(1))
  await write(store, seen(2))
  await store.close()
  const whole = await readFile(path)
  const lastLine = whole.lastIndexOf(0x0a, whole.length - 2) + 1
  for (let end = lastLine; end < whole.length; end++) {
    const cut = join(folder, 'cut')
    await writeFile(cut, whole.subarray(0, end))
    const opened = await open(cut)
    t.ok(opened.state.hasSeen(1n) && !opened.state.hasSeen(2n), `cut at ${end}`)
    await opened.close()
  }
})

t.test('a corrupt file is named as such, kept aside, and never overwritten', async (t) => {
  const cases: Record<string, string> = {
    'no header': 'hello\n',
    'another format': '{"format":"x","version":1}\n',
    'a broken line': '{"format":"borealis-device-state","version":1}\n{"kind":"conn\n{"kind":"done","id":"1"}\n',
    'an unknown change': '{"format":"borealis-device-state","version":1}\n{"kind":"magic"}\n',
    'a wrong type': '{"format":"borealis-device-state","version":1}\n{"kind":"connection","connection":"1"}\n',
    'an empty file': '',
  }
  for (const [name, text] of Object.entries(cases)) {
    const folder = t.testdir({})
    const path = join(folder, 'state')
    await writeFile(path, text)
    await t.rejects(open(path), { code: 'state_corrupt' }, name)
    t.equal(await readFile(`${path}.corrupt-1`, 'utf8'), text)
    const fresh = await open(path)
    t.equal(fresh.state.identity, null)
    await fresh.close()
    await writeFile(path, text)
    await t.rejects(open(path), { code: 'state_corrupt' })
    t.same((await readdir(folder)).sort(), ['state.corrupt-1', 'state.corrupt-2'])
  }
})

t.test('a newer version is left alone', async (t) => {
  const path = join(t.testdir(), 'state')
  const text = '{"format":"borealis-device-state","version":2}\n'
  await writeFile(path, text)
  await t.rejects(open(path), { code: 'state_version' })
  t.equal(await readFile(path, 'utf8'), text)
})

t.test('one owner a file; a lock whose owner is gone is taken over', async (t) => {
  const path = join(t.testdir(), 'state')
  const store = await open(path)
  await t.rejects(open(path), { code: 'state_locked' })
  await store.close()
  await writeFile(`${path}.lock`, `${process.ppid}\n`)
  await t.rejects(open(path), { code: 'state_locked' }, 'of a process that is alive')
  await writeFile(`${path}.lock`, '999999999\n')
  await (await open(path)).close()
  t.same(await readdir(join(path, '..')), ['state'])
})

t.test('a crash between persist and hand-over: given again, marked, and still known on the wire', async (t) => {
  const transport = await server(t)
  const path = join(t.testdir(), 'state')
  const store = await open(path)
  await write(store, ...KNOWN)
  const first = new BorealisClient({ store, url: transport.url, random: Math.random, settings: FAST })
  // Nobody listens to notifications: they are persisted and acknowledged, and wait.
  first.connect()
  const peer = await transport.welcomed()
  const expiresAtSeconds = Math.floor(Date.now() / 1_000) + 3_600
  peer.send(notify(1n, { expiresAtSeconds }), notify(2n, { expiresAtSeconds, title: 'two' }), notify(9n))
  t.same((await peer.next('ACK')).ids, [1n, 2n, 9n])
  // As a kill would leave it: the file as it is now, in another place.
  const crashed = join(path, '..', 'crashed')
  await writeFile(crashed, await readFile(path))
  await first.close()

  const reopened = await open(crashed)
  const second = new BorealisClient({ store: reopened, url: transport.url, random: Math.random, settings: FAST })
  const inbox = new Inbox(second)
  second.connect()
  const again = await transport.welcomed()
  again.send(notify(1n), notify(3n))
  t.same((await again.next('ACK')).ids, [1n, 3n])
  t.match(await inbox.next(3), [
    { id: '1', possibleDuplicate: true },
    { id: '2', title: 'two', possibleDuplicate: true },
    { id: '3', possibleDuplicate: false },
  ])
  t.equal(inbox.notifications.length, 3, '9 was only for its moment')
  await second.close()

  const third = await open(crashed)
  t.equal(third.state.inbox.size, 0, 'done was written')
  t.ok(third.state.hasSeen(2n))
  await third.close()
})

t.test('a disk that fails: no ACK, no hand-over; when it is back, both', async (t) => {
  const transport = await server(t)
  const path = join(t.testdir(), 'state')
  const file = await open(path)
  await write(file, ...KNOWN)
  let failing = false
  const store: StateStore = {
    state: file.state,
    close: () => file.close(),
    // In order with the writes before it, as the contract has it.
    write: (changes, done) => (failing ? file.write([], () => done(new Error('ENOSPC'))) : file.write(changes, done)),
  }
  const device = new BorealisClient({ store, url: transport.url, random: Math.random, settings: FAST })
  const inbox = new Inbox(device)
  const failed = new Promise<string>((resolve) => device.once('error', ({ code }) => resolve(code)))
  device.connect()
  const peer = await transport.welcomed()
  failing = true
  peer.send(notify(1n))
  t.equal(await failed, 'state_unwritable')
  await peer.closed()
  t.equal(peer.frames.filter((f) => f.type === 'ACK').length, 0)
  t.equal(inbox.notifications.length, 0)
  failing = false
  const again = await transport.welcomed()
  again.send(notify(1n))
  t.same((await again.next('ACK')).ids, [1n])
  t.same(
    (await inbox.next(1)).map((n) => n.id),
    ['1'],
  )
  again.send(notify(2n))
  t.same(
    (await inbox.next(2)).map((n) => n.id),
    ['1', '2'],
    'once',
  )
  await device.close()
})

t.test('what cannot be read or written is said so', async (t) => {
  const folder = t.testdir({ state: {} })
  await t.rejects(open(join(folder, 'state')), { code: 'state_unwritable' })
  await t.rejects(open(join(folder, 'none', 'state')), { code: 'state_unwritable' })
  await appendFile(join(folder, 'other'), '')
  await t.rejects(open(join(folder, 'other', 'state')), { code: 'state_unwritable' })
})
