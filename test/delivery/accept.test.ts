import { Packr } from 'msgpackr'
import t from 'tap'
import { decodeFrames } from '../../protocol/decode.js'
import { decodeBroadcastRecord } from '../../protocol/envelope.js'
import { partitionOf, partitionOfId } from '../../protocol/message-id.js'
import { BROADCAST_STREAM, Bucket, eventsStream, idempotencySubject, messagesStream } from '../../protocol/subjects.js'
import { digestOf } from '../../src/store/idempotency.js'
import { ReceiptLog } from '../../src/store/receipts.js'
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

t.test('for each type the ttl begins at notBefore, or else at the acceptedAtMs of the command', async (t) => {
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

t.test('the frame that a worker gets decodes to each field of the message', async (t) => {
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
  t.equal(worker.items.length, 2, 'one frame for each device')
  for (const device of devices) t.same(await world.advanceUntil(core.queue.walk(device)), [], 'no second one is queued')
})

t.test('one idempotency key in two projects makes two messages', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const one = await world.advanceUntil(
    core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' } })),
  )
  const other = await world.advanceUntil(
    core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' }, project: 'other' })),
  )
  t.not(one.id, other.id)
})

t.test('one idempotency key with another content is refused as idempotency_conflict', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  await world.advanceUntil(core.accept(messageTo([deviceName(1)], { idempotency: { key: 'k', fingerprint: 'f' } })))
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
    'the record has no id for the second target',
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

t.test('accept rejects as unavailable while the store refuses appends or does not answer', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  world.sim.faults.refuseAppend = 1
  await t.rejects(world.advanceUntil(core.accept(messageTo([deviceName(1)]))), { code: 'unavailable' }, 'refused')
  world.sim.heal()
  world.sim.faults.loseAnswer = 1
  await t.rejects(world.advanceUntil(core.accept(messageTo([deviceName(1)]))), { code: 'unavailable' }, 'no answer')
})

t.test('accept rejects as storage_full when MESSAGES is full', async (t) => {
  const world = new SimInstallation({ store: { messagesBytesMax: 1024 * 1024 } })
  const core = await world.core(acceptOnly)
  const message = 'x'.repeat(20_000)
  let full: unknown
  for (let n = 0; n < 100 && full === undefined; n += 10) {
    const sent = Array.from({ length: 10 }, () => core.accept(messageTo([deviceName(n)], { message })))
    const results = await world.advanceUntil(Promise.allSettled(sent))
    full = results.find((result) => result.status === 'rejected')?.reason
  }
  t.match(full, { code: 'storage_full' })
})

t.test('accept rejects a message that does not fit into a frame as payload_too_large', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const large = core.accept(messageTo([deviceName(1)], { message: 'x'.repeat(70_000) }))
  await t.rejects(world.advanceUntil(large), { code: 'payload_too_large' })
})

const group = { kind: 'topic' as const, name: 'news.sport' }

t.test('a group message is one record of BROADCAST, also after a repeat past the duplicate window', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const changes = { type: 'topic' as const, group, targets: [], idempotency: { key: 'g', fingerprint: 'f' } }
  const { id } = await world.advanceUntil(core.accept(messageTo([], changes)))
  await world.sim.clock.advance(130_000)
  t.equal((await world.advanceUntil(core.accept(messageTo([], changes)))).id, id)
  const log = world.sim.brokerFor('test').log(BROADCAST_STREAM)
  t.equal((await world.advanceUntil(log.state())).messages, 1)
  const record = await world.advanceUntil(log.at(1))
  t.match(decodeBroadcastRecord(record?.body ?? new Uint8Array()), { id, project: PROJECT, ...group })
})

t.test('the status of a group message has the sum of the receipts of all workers', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const { id } = await world.advanceUntil(core.accept(messageTo([], { type: 'topic', group, targets: [] })))
  const receipts = new ReceiptLog(world.sim.brokerFor('worker'))
  const of = (worker: string, sent: number, part = 0) => ({ instance: 'i', worker, part, sent, atMs: sent })
  for (const receipt of [of('0-a', 1), of('1-a', 4), of('0-a', 3)]) {
    await world.advanceUntil(receipts.write(id, receipt))
  }
  await world.advanceUntil(receipts.write(id + 1n, of('0-a', 100)))
  t.match(await world.advanceUntil(core.readStatus(id)), {
    type: 'topic',
    target: 'news.sport',
    counts: { sent: 7 },
    status: 'sent',
  })
})

t.test('the cancel of a group message that was sent answers already_final', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  const { id } = await world.advanceUntil(core.accept(messageTo([], { type: 'topic', group, targets: [] })))
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'already_final')
})

t.test('two cores have different node numbers', async (t) => {
  const world = new SimInstallation()
  const [first, second] = [await world.core(acceptOnly), await world.core(acceptOnly)]
  t.not(first.node, second.node)
  const table = world.sim.brokerFor('test').table(Bucket.CORES)
  t.equal((await world.advanceUntil(table.entries('node.*'))).length, 2)
})

t.test('a core frozen past the lease of its node number accepts nothing until it has a number again', async (t) => {
  const world = new SimInstallation()
  const core = await world.core(acceptOnly)
  await world.core(acceptOnly)
  core.process.freeze()
  await world.sim.clock.advance(60_000)
  const late = core.accept(messageTo([deviceName(1)]))
  await t.rejects(late, { code: 'unavailable' }, 'the lease has lapsed, although no timer of the core has run yet')
  core.process.thaw()
  await world.sim.clock.advance(5_000)
  t.ok((await world.advanceUntil(core.accept(messageTo([deviceName(1)])))).id > 0n)
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
