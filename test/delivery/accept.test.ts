import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeFrames } from '../../protocol/decode.js'
import { decodeBroadcastRecord } from '../../protocol/envelope.js'
import { partitionOf, partitionOfId } from '../../protocol/message-id.js'
import { BROADCAST_STREAM, Bucket, eventsStream, idempotencySubject, messagesStream } from '../../protocol/subjects.js'
import { digestOf } from '../../src/store/idempotency.js'
import { command, deviceName, PROJECT, targetOf } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const idle = { routing: false }

t.test('stored before it is answered, under an id that carries the partition of the device', async (t) => {
  const place = new SimInstallation()
  const core = await place.core(idle)
  const device = deviceName(1)
  const accepted = await place.run(core.accept(command([device], { ttlMs: 60_000 })))
  t.equal(partitionOfId(accepted.id), partitionOf(device))
  t.equal(accepted.expiresAtMs, accepted.acceptedAtMs + 60_000)
  t.ok(await place.run(core.isStored(device, accepted.id)))
})

t.test('the frame is whole: a device reads what was sent', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(2)
  await place.run(worker.connect(device))
  const data = new Packr({ useRecords: false }).pack({ n: 1 })
  const content = { title: 'T', message: 'M', priority: 'high' as const, collapseKey: 'k', data, ttlMs: 1_500 }
  const { id, expiresAtMs } = await place.run(core.accept(command([device], content)))
  await place.run(core.final(id))
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

t.test('the same idempotency key: the same ids, stored once, however late and however often', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const devices = [deviceName(1), deviceName(2)]
  await place.run(Promise.all(devices.map((device) => worker.connect(device))))
  const again = () => core.accept(command(devices, { idempotency: { key: 'order-17', fingerprint: 'f' } }))
  const [first, second] = await place.run(Promise.all([again(), again()]))
  t.equal(first?.id, second?.id)
  const targets = await place.run(core.events.readTargets(first?.id ?? 0n))
  t.equal(targets?.targets.length, 2)
  for (const target of targets?.targets ?? []) await place.run(core.final(target.id))
  await place.sim.clock.run(130_000)
  t.same(await place.run(again()), first, 'long after the duplicate window')
  await place.sim.clock.run(1_000)
  t.equal(worker.items.length, 2)
  for (const device of devices) t.same(await place.run(core.queue.walk(device)), [], 'nor is a second one queued')
})

t.test('a key is of its project, and of its message', async (t) => {
  const place = new SimInstallation()
  const core = await place.core(idle)
  const one = await place.run(core.accept(command([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' } })))
  const other = await place.run(
    core.accept(command([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' }, project: 'other' })),
  )
  t.not(one.id, other.id)
  const changed = core.accept(command([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'another' } }))
  await t.rejects(place.run(changed), { code: 'idempotency_conflict' })
})

t.test(
  'a key of a record without names, as older cores wrote: the same ids; its fingerprint compares with nothing',
  async (t) => {
    const place = new SimInstallation()
    const core = await place.core(idle)
    const device = deviceName(1)
    const { id } = await place.run(core.accept(command([device])))
    const digest = digestOf([PROJECT, 'old'])
    const old = [1, id, place.sim.clock.now(), 'of another form', [id]]
    const body = new Packr({ useRecords: false, int64AsType: 'bigint' }).pack(old)
    const partition = partitionOf(digest)
    const log = place.sim.brokerFor('test').log(eventsStream(0))
    await place.run(log.append(idempotencySubject(partition, digest), body))
    const repeat = (devices: string[]) =>
      core.accept(command(devices, { idempotency: { key: 'old', fingerprint: 'f' } }))
    t.equal((await place.run(repeat([device]))).id, id)
    t.equal(place.sim.server.stream(messagesStream(0)).state().messages, 1, 'its message is not sent again')
    await t.rejects(
      place.run(repeat([device, deviceName(2)])),
      { code: 'idempotency_conflict' },
      'no id for the second',
    )
  },
)

t.test('a core that died between two targets: the repeat stores the rest', async (t) => {
  const place = new SimInstallation()
  const core = await place.core(idle)
  const devices = [deviceName(1), deviceName(2), deviceName(3)]
  const messages = place.sim.server.stream(messagesStream(0))
  const stop = place.sim.server.follow(messages, { stored: () => core.process.crash() })
  core.accept(command(devices, { idempotency: { key: 'k', fingerprint: 'f' } })).catch(() => undefined)
  await place.sim.clock.run(1_000)
  stop()
  const next = await place.core(idle)
  const { id } = await place.run(next.accept(command(devices, { idempotency: { key: 'k', fingerprint: 'f' } })))
  const targets = (await place.run(next.events.readTargets(id)))?.targets ?? []
  for (const [index, device] of devices.entries()) {
    t.ok(await place.run(next.isStored(device, targets[index]?.id ?? 0n)), device)
  }
  t.equal(messages.state().messages, devices.length)
})

t.test('the store away, full or silent: refused with a code, never falsely accepted', async (t) => {
  const place = new SimInstallation({ store: { messagesBytesMax: 1024 * 1024 } })
  const core = await place.core(idle)
  place.sim.faults.refuseAppend = 1
  await t.rejects(place.run(core.accept(command([deviceName(1)]))), { code: 'unavailable' })
  place.sim.heal()
  place.sim.faults.loseAnswer = 1
  await t.rejects(place.run(core.accept(command([deviceName(1)]))), { code: 'unavailable' })
  place.sim.heal()
  await place.sim.clock.run(20_000)
  const message = 'x'.repeat(20_000)
  let full: unknown
  for (let n = 0; n < 100 && full === undefined; n += 10) {
    const sent = Array.from({ length: 10 }, () => core.accept(command([deviceName(n)], { message })))
    const results = await place.run(Promise.allSettled(sent))
    full = results.find((result) => result.status === 'rejected')?.reason
  }
  t.match(full, { code: 'storage_full' })
  const large = core.accept(command([deviceName(1)], { message: 'x'.repeat(70_000) }))
  await t.rejects(place.run(large), { code: 'payload_too_large' })
})

t.test('a group message is written once', async (t) => {
  const place = new SimInstallation()
  const core = await place.core(idle)
  const group = { kind: 'topic' as const, name: 'news.sport' }
  const changes = { type: 'topic' as const, group, targets: [], idempotency: { key: 'g', fingerprint: 'f' } }
  const { id } = await place.run(core.accept(command([], changes)))
  await place.sim.clock.run(130_000)
  t.equal((await place.run(core.accept(command([], changes)))).id, id, 'also long after the duplicate window')
  const log = place.sim.brokerFor('test').log(BROADCAST_STREAM)
  t.equal((await place.run(log.state())).messages, 1)
  const record = await place.run(log.at(1))
  t.match(decodeBroadcastRecord(record?.body ?? new Uint8Array()), { id, project: PROJECT, ...group })
  await place.run(core.events.receipts(id, { instance: 'i', worker: '0-a', sent: 3, atMs: 1 }))
  await place.run(core.events.receipts(id, { instance: 'i', worker: '1-a', sent: 4, atMs: 2 }))
  t.match(await place.run(core.readStatus(id)), { type: 'topic', target: 'news.sport', counts: { sent: 7 } })
  t.equal(await place.run(core.cancel(PROJECT, id)), 'already_final')
})

t.test('ids of two cores never meet, and a frozen core makes none', async (t) => {
  const place = new SimInstallation()
  const [a, b] = [await place.core(idle), await place.core(idle)]
  t.not(a.node, b.node)
  const table = place.sim.brokerFor('test').table(Bucket.CORES)
  t.equal((await place.run(table.entries('node.*'))).length, 2)
  a.process.freeze()
  await place.sim.clock.run(60_000)
  const late = a.accept(command([deviceName(1)]))
  await t.rejects(late, { code: 'unavailable' }, 'before anything of it ran again')
  a.process.thaw()
  await place.sim.clock.run(5_000)
  t.ok((await place.run(a.accept(command([deviceName(1)])))).id > 0n, 'and goes on once it has a number again')
})

t.test('devices: each target has its own id and registration', async (t) => {
  const place = new SimInstallation()
  const worker = place.worker()
  const core = await place.core()
  const device = deviceName(4)
  await place.run(worker.connect(device))
  const targets = [targetOf(device, 1), targetOf(device, 2)]
  const { id } = await place.run(core.accept(command([device], { type: 'devices', targets })))
  const stored = (await place.run(core.events.readTargets(id)))?.targets ?? []
  for (const target of stored) await place.run(core.final(target.id))
  t.equal(new Set(worker.items.map((item) => item.id)).size, 2)
  t.match(await place.run(core.readStatus(id)), {
    type: 'devices',
    status: 'delivered',
    target: [`${device}/1`, `${device}/2`],
    counts: { accepted: 2, delivered: 2, pending: 0 },
  })
})
