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

t.test('a reopened state file has all changes of its snapshot and journal, mode 0600, and no other file', async (t) => {
  const path = join(t.testdir(), 'state')
  let store = await open(path)
  await write(store, { kind: 'identity', identity: IDENTITY }, { kind: 'connection', connection: 7 })
  for (let id = 1; id <= 200; id++) await write(store, seen(id))
  const { size } = await stat(path)
  t.ok(size < 100 * 80 + 2_000 + 500, `the journal was compacted to a snapshot of ${size} bytes`)
  await store.close()
  store = await open(path)
  t.equal(store.state.connection, 7)
  t.same(store.state.identity, IDENTITY)
  t.notOk(store.state.hasSeen(100n))
  t.ok(store.state.hasSeen(101n))
  t.ok(store.state.hasSeen(200n))
  await store.close()
  t.equal((await stat(path)).mode & 0o777, 0o600, 'the file has secrets')
  t.same(await readdir(join(path, '..')), ['state'], 'no lock and no temporary file remains')
})

t.test('writes of one turn are confirmed in order', async (t) => {
  const store = await open(join(t.testdir(), 'state'), { journalBytesMax: 1e6 })
  const order: number[] = []
  const all = [1, 2, 3].map((id) => write(store, seen(id)).then(() => order.push(id)))
  await Promise.all(all)
  t.same(order, [1, 2, 3])
  await store.close()
})

t.test('a write after close is rejected as stopped', async (t) => {
  const store = await open(join(t.testdir(), 'state'))
  await store.close()
  await t.rejects(write(store, seen(4)), { code: 'stopped' })
})

t.test('a change that is written with fsync is there after a reopen', async (t) => {
  const path = join(t.testdir(), 'state')
  const store = await FileStateStore.open(path, { ...SETTINGS, fsync: 'always' }, now)
  await write(store, seen(1))
  await store.close()
  const again = await open(path)
  t.ok(again.state.hasSeen(1n))
  await again.close()
})

t.test('a last line that was cut off at any byte is ignored', async (t) => {
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

const corruptFiles: Record<string, string> = {
  'without a header': 'hello\n',
  'of another format': '{"format":"x","version":1}\n',
  'with a broken line': '{"format":"borealis-device-state","version":1}\n{"kind":"conn\n{"kind":"done","id":"1"}\n',
  'with an unknown change': '{"format":"borealis-device-state","version":1}\n{"kind":"magic"}\n',
  'with a wrong type': '{"format":"borealis-device-state","version":1}\n{"kind":"connection","connection":"1"}\n',
  'without any byte': '',
}

for (const [name, text] of Object.entries(corruptFiles)) {
  t.test(`a state file ${name} is state_corrupt, kept aside, and never overwritten`, async (t) => {
    const folder = t.testdir({})
    const path = join(folder, 'state')
    await writeFile(path, text)
    await t.rejects(open(path), { code: 'state_corrupt' })
    t.equal(await readFile(`${path}.corrupt-1`, 'utf8'), text)
    const fresh = await open(path)
    t.equal(fresh.state.identity, null, 'the next start has a new state')
    await fresh.close()
    await writeFile(path, text)
    await t.rejects(open(path), { code: 'state_corrupt' })
    t.same((await readdir(folder)).sort(), ['state.corrupt-1', 'state.corrupt-2'])
  })
}

t.test('a state file of a newer version is refused and unchanged', async (t) => {
  const path = join(t.testdir(), 'state')
  const text = '{"format":"borealis-device-state","version":2}\n'
  await writeFile(path, text)
  await t.rejects(open(path), { code: 'state_version' })
  t.equal(await readFile(path, 'utf8'), text)
})

t.test('a state file that is open cannot be opened again', async (t) => {
  const path = join(t.testdir(), 'state')
  const store = await open(path)
  await t.rejects(open(path), { code: 'state_locked' })
  await store.close()
})

t.test('the lock of another running process is respected', async (t) => {
  const path = join(t.testdir(), 'state')
  await writeFile(`${path}.lock`, `${process.ppid}\n`)
  await t.rejects(open(path), { code: 'state_locked' })
})

t.test('the lock of a process that has ended is taken over and removed at close', async (t) => {
  const path = join(t.testdir(), 'state')
  await writeFile(`${path}.lock`, '999999999\n')
  await (await open(path)).close()
  t.same(await readdir(join(path, '..')), ['state'])
})

t.test(
  'after a crash between persist and hand-over a push is handed over once, marked, also if it comes again',
  async (t) => {
    const transport = await server(t)
    const path = join(t.testdir(), 'state')
    const store = await open(path)
    await write(store, ...KNOWN)
    const first = new BorealisClient({ store, url: transport.url, random: Math.random, settings: FAST })
    // Without a listener the pushes are persisted and acknowledged, and stay in the inbox.
    first.connect()
    const peer = await transport.welcomed()
    const expiresAtSeconds = Math.floor(Date.now() / 1_000) + 3_600
    peer.send(notify(1n, { expiresAtSeconds }), notify(2n, { expiresAtSeconds, title: 'two' }), notify(9n))
    t.same((await peer.next('ACK')).ids, [1n, 2n, 9n])
    // A copy of the file stands for the state after a kill.
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
    t.equal(inbox.notifications.length, 3, 'push 9 had no time to live')
    await second.close()

    const third = await open(crashed)
    t.equal(third.state.inbox.size, 0, 'the hand-over is durable')
    t.ok(third.state.hasSeen(2n))
    await third.close()
  },
)

t.test('while the disk fails a push gets neither ACK nor hand-over, and afterwards both, once', async (t) => {
  const transport = await server(t)
  const path = join(t.testdir(), 'state')
  const file = await open(path)
  await write(file, ...KNOWN)
  let failing = false
  const store: StateStore = {
    state: file.state,
    close: () => file.close(),
    // The contract of StateStore: confirmations come in the order of the writes.
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
  )
  await device.close()
})

t.test('a path that is a folder, or below a missing folder or a file, is state_unwritable', async (t) => {
  const folder = t.testdir({ state: {} })
  await t.rejects(open(join(folder, 'state')), { code: 'state_unwritable' })
  await t.rejects(open(join(folder, 'none', 'state')), { code: 'state_unwritable' })
  await appendFile(join(folder, 'other'), '')
  await t.rejects(open(join(folder, 'other', 'state')), { code: 'state_unwritable' })
})
