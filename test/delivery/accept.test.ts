import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeFrames } from '../../protocol/decode.js'
import { decodeBroadcastRecord } from '../../protocol/envelope.js'
import { partitionOf, partitionOfId } from '../../protocol/message-id.js'
import { BROADCAST_STREAM, Bucket, eventsStream, idempotencySubject, messagesStream } from '../../protocol/subjects.js'
import { digestOf } from '../../src/store/idempotency.js'
import { deviceName, messageTo, PROJECT, targetOf } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

/** Settings of a core that accepts messages and routes none of them. */
const acceptOnly = { routing: false }

t.test('a message is stored before accept answers, under an id of the partition of its device', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const device = deviceName(1)
  const accepted = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: 60_000 })))
  t.equal(partitionOfId(accepted.id), partitionOf(device))
  t.equal(accepted.expiresAtMs, accepted.acceptedAtMs + 60_000)
  t.ok(await world.advanceUntil(core.isStored(device, accepted.id)))
})

t.test('a message that a publisher sent a while ago lives from then on, whatever its type', async (t) => {
  const world = new SimInstallation()
  const { clock } = world.sim
  const core = await world.core(acceptOnly)
  const acceptedAtMs = clock.now() - 5_000
  const device = deviceName(1)
  const group = { kind: 'topic', name: 'news' } as const
  const notBeforeMs = clock.now() + 10_000
  for (const [content, expiresAtMs] of [
    [messageTo([device, deviceName(2)]), acceptedAtMs + 60_000],
    [{ ...messageTo([]), type: 'topic', group }, acceptedAtMs + 60_000],
    [{ ...messageTo([device]), notBeforeMs }, notBeforeMs + 60_000],
    [{ ...messageTo([device]), notBeforeMs: acceptedAtMs - 1 }, acceptedAtMs + 60_000],
  ] as const) {
    const command = { ...content, ttlMs: 60_000, acceptedAtMs }
    t.match(await world.advanceUntil(core.accept(command)), { acceptedAtMs, expiresAtMs })
  }
})

t.test('the frame that a worker gets decodes to every field of the message', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(2)
  await world.advanceUntil(worker.connect(device))
  const data = new Packr({ useRecords: false }).pack({ n: 1 })
  const content = { title: 'T', message: 'M', priority: 'high' as const, collapseKey: 'k', data, ttlMs: 1_500 }
  const { id, expiresAtMs } = await world.advanceUntil(core.accept(messageTo([device], content)))
  await world.advanceUntil(core.final(id))
  const frame = worker.items[0]?.frame ?? new Uint8Array()
  const { frames } = decodeFrames(frame, { from: 'server', frameBytesMax: frame.length })
  const expiresAtSeconds = Math.ceil(expiresAtMs / 1000)
  t.match(frames, [
    {
      type: 'NOTIFY',
      id,
      registration: 1,
      title: 'T',
      message: 'M',
      priority: 'high',
      collapseKey: 'k',
      expiresAtSeconds,
    },
  ])
})

t.test('repeats with one idempotency key get the same ids and store the message once, however late', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const devices = [deviceName(1), deviceName(2)]
  await world.advanceUntil(Promise.all(devices.map((device) => worker.connect(device))))
  const again = () => core.accept(messageTo(devices, { idempotency: { key: 'order-17', fingerprint: 'f' } }))
  const [first, second] = await world.advanceUntil(Promise.all([again(), again()]))
  t.equal(first?.id, second?.id)
  const targets = await world.advanceUntil(core.events.readTargets(first?.id ?? 0n))
  t.equal(targets?.targets.length, 2)
  for (const target of targets?.targets ?? []) await world.advanceUntil(core.final(target.id))
  await world.sim.clock.advance(130_000)
  t.same(await world.advanceUntil(again()), first, 'long after the duplicate window')
  await world.sim.clock.advance(1_000)
  t.equal(worker.items.length, 2)
  for (const device of devices)
    t.same(await world.advanceUntil(core.queue.walk(device)), [], 'nor is a second one queued')
})

t.test('one idempotency key in two projects makes two messages; with another content it is a conflict', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const one = await world.advanceUntil(
    core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' } })),
  )
  const other = await world.advanceUntil(
    core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' }, project: 'other' })),
  )
  t.not(one.id, other.id)
  const changed = core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'another' } }))
  await t.rejects(world.advanceUntil(changed), { code: 'idempotency_conflict' })
})

t.test('a repeat of a key that an older core recorded gets its ids, without comparing fingerprints', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const device = deviceName(1)
  const { id } = await world.advanceUntil(core.accept(messageTo([device])))
  const digest = digestOf([PROJECT, 'old'])
  const old = [1, id, world.sim.clock.now(), 'of another form', [id]]
  const body = new Packr({ useRecords: false, int64AsType: 'bigint' }).pack(old)
  const partition = partitionOf(digest)
  const log = world.sim.brokerFor('test').log(eventsStream(0))
  await world.advanceUntil(log.append(idempotencySubject(partition, digest), body))
  const repeat = (devices: string[]) =>
    core.accept(messageTo(devices, { idempotency: { key: 'old', fingerprint: 'f' } }))
  t.equal((await world.advanceUntil(repeat([device]))).id, id)
  t.equal(world.sim.server.stream(messagesStream(0)).state().messages, 1, 'its message is not sent again')
  await t.rejects(
    world.advanceUntil(repeat([device, deviceName(2)])),
    { code: 'idempotency_conflict' },
    'no id for the second',
  )
})

t.test('a repeat after a core crashed between two targets of a message stores the missing targets', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const devices = [deviceName(1), deviceName(2), deviceName(3)]
  const messages = world.sim.server.stream(messagesStream(0))
  const stop = world.sim.server.follow(messages, { stored: () => core.process.crash() })
  core.accept(messageTo(devices, { idempotency: { key: 'k', fingerprint: 'f' } })).catch(() => undefined)
  await world.sim.clock.advance(1_000)
  stop()
  const next = await world.core(acceptOnly)
  const { id } = await world.advanceUntil(
    next.accept(messageTo(devices, { idempotency: { key: 'k', fingerprint: 'f' } })),
  )
  const targets = (await world.advanceUntil(next.events.readTargets(id)))?.targets ?? []
  for (const [index, device] of devices.entries()) {
    t.ok(await world.advanceUntil(next.isStored(device, targets[index]?.id ?? 0n)), device)
  }
  t.equal(messages.state().messages, devices.length)
})

t.test('accept fails with a code where the store is away, silent or full, or the message too large', async (t) => {
  const world = new SimInstallation({ store: { messagesBytesMax: 1024 * 1024 } })
  const core = await world.core(acceptOnly)
  world.sim.faults.refuseAppend = 1
  await t.rejects(world.advanceUntil(core.accept(messageTo([deviceName(1)]))), { code: 'unavailable' })
  world.sim.heal()
  world.sim.faults.loseAnswer = 1
  await t.rejects(world.advanceUntil(core.accept(messageTo([deviceName(1)]))), { code: 'unavailable' })
  world.sim.heal()
  await world.sim.clock.advance(20_000)
  const message = 'x'.repeat(20_000)
  let full: unknown
  for (let n = 0; n < 100 && full === undefined; n += 10) {
    const sent = Array.from({ length: 10 }, () => core.accept(messageTo([deviceName(n)], { message })))
    const results = await world.advanceUntil(Promise.allSettled(sent))
    full = results.find((result) => result.status === 'rejected')?.reason
  }
  t.match(full, { code: 'storage_full' })
  const large = core.accept(messageTo([deviceName(1)], { message: 'x'.repeat(70_000) }))
  await t.rejects(world.advanceUntil(large), { code: 'payload_too_large' })
})

t.test('a group message is one record, also after a late repeat; receipts are summed, cancel is refused', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const group = { kind: 'topic' as const, name: 'news.sport' }
  const changes = { type: 'topic' as const, group, targets: [], idempotency: { key: 'g', fingerprint: 'f' } }
  const { id } = await world.advanceUntil(core.accept(messageTo([], changes)))
  await world.sim.clock.advance(130_000)
  t.equal(
    (await world.advanceUntil(core.accept(messageTo([], changes)))).id,
    id,
    'also long after the duplicate window',
  )
  const log = world.sim.brokerFor('test').log(BROADCAST_STREAM)
  t.equal((await world.advanceUntil(log.state())).messages, 1)
  const record = await world.advanceUntil(log.at(1))
  t.match(decodeBroadcastRecord(record?.body ?? new Uint8Array()), { id, project: PROJECT, ...group })
  await world.advanceUntil(core.events.receipts(id, { instance: 'i', worker: '0-a', sent: 3, atMs: 1 }))
  await world.advanceUntil(core.events.receipts(id, { instance: 'i', worker: '1-a', sent: 4, atMs: 2 }))
  t.match(await world.advanceUntil(core.readStatus(id)), { type: 'topic', target: 'news.sport', counts: { sent: 7 } })
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'already_final')
})

t.test('no two cores share a node number; one frozen past its lease makes no ids until it has one again', async (t) => {
  const world = new SimInstallation()
  const [a, b] = [await world.core(acceptOnly), await world.core(acceptOnly)]
  t.not(a.node, b.node)
  const table = world.sim.brokerFor('test').table(Bucket.CORES)
  t.equal((await world.advanceUntil(table.entries('node.*'))).length, 2)
  a.process.freeze()
  await world.sim.clock.advance(60_000)
  const late = a.accept(messageTo([deviceName(1)]))
  await t.rejects(late, { code: 'unavailable' }, 'its lease has lapsed, although none of its timers has run yet')
  a.process.thaw()
  await world.sim.clock.advance(5_000)
  t.ok(
    (await world.advanceUntil(a.accept(messageTo([deviceName(1)])))).id > 0n,
    'and goes on once it has a number again',
  )
})

t.test('two registrations of one device in a devices message have an id each and are both delivered', async (t) => {
  const world = new SimInstallation()
  const worker = world.worker()
  const core = await world.core()
  const device = deviceName(4)
  await world.advanceUntil(worker.connect(device))
  const targets = [targetOf(device, 1), targetOf(device, 2)]
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { type: 'devices', targets })))
  const stored = (await world.advanceUntil(core.events.readTargets(id)))?.targets ?? []
  for (const target of stored) await world.advanceUntil(core.final(target.id))
  t.equal(new Set(worker.items.map((item) => item.id)).size, 2)
  t.match(await world.advanceUntil(core.readStatus(id)), {
    type: 'devices',
    status: 'delivered',
    target: [`${device}/1`, `${device}/2`],
    counts: { accepted: 2, delivered: 2, pending: 0 },
  })
})
