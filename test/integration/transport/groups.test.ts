import t from 'tap'
import { encodeNotifyGroupBody } from '../../../protocol/encode.js'
import type { Cursor } from '../../../protocol/frame-types.js'
import { BroadcastLog } from '../../../src/store/broadcast.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport, type TestTransport } from '../../support/transport.js'

/** The most messages of 30 kB that the test sends to a device that does not read. */
const STALLED_MESSAGES_MAX = 2_000

/** Sends group messages and changes subscriptions as the core does. */
function groupsOf({ core, devices }: TestTransport) {
  const broadcast = new BroadcastLog(core)
  const content = { expiresAtSeconds: 4_000_000_000, priority: 'normal', collapseKey: '', message: '' } as const
  return {
    send: (name: string, id: bigint, { expiresAtMs = Date.now() + 60_000, title = name } = {}) =>
      broadcast.append({
        ...{ id, project: 'acme', kind: 'topic', name, acceptedAtMs: Date.now(), expiresAtMs, collapseKey: '' },
        body: encodeNotifyGroupBody({
          ...{ id, target: { kind: 'topic', name }, project: 'acme', title, data: new Uint8Array() },
          ...content,
        }),
      }),
    /** Updates the device record. The core reads `since` before the update, and so does this. */
    subscribe: async (device: string, ...topics: string[]) => {
      const since = (await broadcast.log.state()).lastSequence
      return devices.update(device, (record) => {
        const version = record.version + 1
        const added = topics.map((topic) => ({ registration: 1, project: 'acme', topic, since, addedVersion: version }))
        return { ...record, version, topics: [...record.topics, ...added] }
      })
    },
  }
}

async function takeGroup(raw: RawDevice, count: number): Promise<bigint[]> {
  const ids: bigint[] = []
  while (ids.length < count) ids.push((await raw.until('NOTIFY_GROUP')).id)
  return ids
}

t.test('a subscriber gets messages live, and after a reconnect from its cursor in the order of the log', async (t) => {
  const transport = await startTransport(t)
  const { worker, credential } = transport
  const { send, subscribe } = groupsOf(transport)
  const device = newDevice()
  await send('news', 1n)
  await subscribe(device, 'news', 'sport')
  const raw = await RawDevice.open(worker.port)
  raw.hello({ credential: credential(device), connection: 1 })
  t.equal((await raw.until('WELCOME')).subscriptions, 1)
  const { cursor } = await raw.until('CAUGHT_UP')
  t.match(cursor, { subscriptions: 1 })
  await send('news', 2n)
  await send('other', 3n)
  await send('sport', 4n)
  t.same(await takeGroup(raw, 2), [2n, 4n], 'no message from before the subscription, and none of another topic')
  raw.cut()
  await raw.closed

  for (const [name, id] of [
    ['sport', 5n],
    ['other', 6n],
    ['news', 7n],
    ['sport', 8n],
  ] as const)
    await send(name, id)
  const again = await RawDevice.open(worker.port)
  again.hello({ credential: credential(device), connection: 2, cursor })
  await again.until('WELCOME')
  t.same(await takeGroup(again, 5), [2n, 4n, 5n, 7n, 8n], 'the messages after the cursor')
  const caughtUp = await again.until('CAUGHT_UP')
  t.ok((caughtUp.cursor?.sequence ?? 0) > (cursor?.sequence ?? 0))
  await send('news', 9n)
  t.same(await takeGroup(again, 1), [9n])
  again.ws.close()
})

t.test('a catch-up is complete at a worker with the records in memory and at one that reads the log', async (t) => {
  const transport = await startTransport(t, { groupCacheBytesMax: 100 })
  const { worker, credential, startAnother } = transport
  const { send, subscribe } = groupsOf(transport)
  const device = newDevice()
  await subscribe(device, 'a', 'b')
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1 })
  const cursor = first.received.find((frame) => frame.type === 'CAUGHT_UP')?.cursor ?? null
  first.cut()
  await first.closed
  const ids = Array.from({ length: 12 }, (_, i) => BigInt(i + 1))
  for (const id of ids) await send(id % 3n === 0n ? 'b' : 'a', id)
  const late = await startAnother()
  for (const [connection, port] of [
    [2, late.port],
    [3, worker.port],
  ] as const) {
    const raw = await RawDevice.open(port)
    raw.hello({ credential: credential(device), connection, cursor })
    t.same(await takeGroup(raw, 12), ids)
    await raw.until('CAUGHT_UP')
    raw.cut()
    await raw.closed
  }
})

t.test('a connected device gets messages of a new subscription, and none of a removed one', async (t) => {
  const transport = await startTransport(t)
  const { worker, credential, control } = transport
  const { send, subscribe } = groupsOf(transport)
  const device = newDevice()
  await subscribe(device, 'a')
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  await subscribe(device, 'b')
  await send('b', 1n)
  t.equal(await control({ kind: 'refresh', device }), 'here')
  t.same(await takeGroup(raw, 1), [1n], 'sent between the subscription and the refresh')
  t.match(await raw.until('CAUGHT_UP'), { cursor: { subscriptions: 2 } })
  await send('b', 2n)
  await send('a', 3n)
  t.same(await takeGroup(raw, 2), [2n, 3n])
  await transport.devices.update(device, (record) => ({
    ...record,
    version: record.version + 1,
    topics: record.topics.filter(({ topic }) => topic !== 'a'),
  }))
  await control({ kind: 'refresh', device })
  t.match(await raw.until('CAUGHT_UP'), { cursor: { subscriptions: 3 } })
  await send('a', 4n)
  await send('b', 5n)
  t.same(await takeGroup(raw, 1), [5n], 'no message of the removed topic')
  raw.ws.close()
})

t.test('a cursor of another log, or beyond its end, is answered with GAP log_reset', async (t) => {
  const transport = await startTransport(t)
  const { worker, credential } = transport
  const { send, subscribe } = groupsOf(transport)
  const device = newDevice()
  await subscribe(device, 'a')
  await send('a', 1n)
  const others: Cursor[] = [
    { incarnation: 5n, sequence: 1, subscriptions: 1 },
    { incarnation: worker.worker.groups.log.incarnation, sequence: 4_000, subscriptions: 1 },
  ]
  for (const [i, cursor] of others.entries()) {
    const raw = await RawDevice.open(worker.port)
    raw.hello({ credential: credential(device), connection: i + 1, cursor })
    t.match(await raw.until('GAP'), { reason: 'log_reset', count: 0 })
    t.same(await takeGroup(raw, 1), [1n])
    t.match(await raw.until('CAUGHT_UP'), { cursor: { sequence: 1 } })
    raw.cut()
    await raw.closed
  }
})

t.test('a subscriber that does not read is closed, and gets each message up to the close', async (t) => {
  const transport = await startTransport(t, { backpressureBytesMax: 65_536 })
  const { worker, credential } = transport
  const { subscribe, send } = groupsOf(transport)
  const [slow, quick] = [newDevice(), newDevice()]
  await subscribe(slow, 'a')
  await subscribe(quick, 'a')
  const stalled = await RawDevice.connected(worker.port, { credential: credential(slow) })
  const reader = await RawDevice.connected(worker.port, { credential: credential(quick) })
  stalled.ws.pause()
  const big = 'x'.repeat(30_000)
  const ids: bigint[] = []
  // The kernel buffers some megabytes before the worker notices that the device does not read.
  while (worker.worker.registry.get(slow) && ids.length < STALLED_MESSAGES_MAX) {
    const id = BigInt(ids.length + 1)
    ids.push(id)
    await send('a', id, { title: big })
    t.equal((await reader.until('NOTIFY_GROUP')).id, id)
  }
  t.notOk(worker.worker.registry.get(slow), 'the session is closed')
  stalled.ws.resume()
  t.match(await stalled.closed, { code: 1006 })
  const receivedIds = stalled.received.flatMap((frame) => (frame.type === 'NOTIFY_GROUP' ? [frame.id] : []))
  t.same(receivedIds, ids.slice(0, receivedIds.length), 'no message is missing between two others')
  t.ok(receivedIds.length < ids.length)
  reader.ws.close()
})
