/** The registrations that a group frame names, and the end of a group message's way to a device that leaves. */
import t from 'tap'
import { encodeFrame } from '../../../protocol/encode.js'
import { decodeDeviceRequest, encodeDeviceReply } from '../../../protocol/envelope.js'
import type { DeviceFrame, NotifyGroupFrame } from '../../../protocol/frame-types.js'
import { DEVICE_REQUEST_SUBJECT } from '../../../protocol/subjects.js'
import { Audiences } from '../../../src/transport/groups/audiences.js'
import { type OneWorker, oneWorker } from './one-worker.js'
import { groupIds, groupsOf, type Phone } from './one-worker-groups.js'

const SETS_MAX = 256

const named = ({ frames }: Phone) =>
  frames.filter((frame): frame is NotifyGroupFrame => frame.type === 'NOTIFY_GROUP').map((frame) => frame.registrations)

/** Answers requests of devices as a core does, once the record has changed. */
function answerRequests({ core, clock }: OneWorker, change: () => Promise<number>): void {
  core.bus.subscribe(DEVICE_REQUEST_SUBJECT, ({ body, reply }) => {
    const { kind } = decodeDeviceRequest(body)
    void change().then((subscriptions) => {
      const answer = { ok: true, registration: 1, registrationId: '', project: '', subscriptions } as const
      clock.after(0, () => core.bus.publish(reply, encodeDeviceReply(answer)))
      return kind
    })
  })
}

t.test('a group frame names the registrations of the device that are in the group, live and in catch-up', async (t) => {
  const stage = await oneWorker()
  const { clock } = stage
  const groups = groupsOf(stage)
  await groups.subscribe('a', [2])
  await groups.subscribe('b', [1, 3])
  await groups.send('a', 1n)
  await groups.send('b', 2n)
  const phone = stage.connect()
  await clock.advance(1_000)
  await groups.send('b', 3n)
  await groups.send('a', 4n)
  await clock.advance(1_000)
  t.same(groupIds(phone), [1n, 2n, 3n, 4n])
  t.same(named(phone), [[2], [1, 3], [1, 3], [2]])
  await stage.stop()
})

t.test(
  'another registration joins a topic that the device has: no message is missed, and both are named',
  async (t) => {
    const stage = await oneWorker()
    const { clock } = stage
    const groups = groupsOf(stage)
    await groups.subscribe('a', [2])
    const phone = stage.connect()
    await clock.advance(1_000)
    const sending = (async () => {
      for (let id = 1n; id <= 40n; id++) await groups.send('a', id)
    })()
    await groups.subscribe('a', [1])
    await sending
    await clock.advance(1_000)
    t.same(
      groupIds(phone),
      Array.from({ length: 40 }, (_, i) => BigInt(i + 1)),
    )
    t.same(named(phone).at(-1), [1, 2])
    await stage.stop()
  },
)

for (const kind of ['UNSUBSCRIBE', 'UNREGISTER'] as const) {
  t.test(`after the DONE of ${kind} no message of the topic comes`, async (t) => {
    const stage = await oneWorker()
    const { clock } = stage
    const groups = groupsOf(stage)
    await groups.subscribe('a', [1])
    await groups.subscribe('b', [1])
    const phone = stage.connect()
    await clock.advance(1_000)
    answerRequests(stage, () => groups.unsubscribe('a'))
    const request: DeviceFrame =
      kind === 'UNREGISTER'
        ? { type: kind, request: 7, registration: 1 }
        : { type: kind, request: 7, registration: 1, topic: 'a' }
    phone.end.send(encodeFrame(request))
    for (let id = 1n; id <= 60n; id++) {
      await groups.send('a', 2n * id)
      await groups.send('b', 2n * id + 1n)
    }
    await clock.advance(1_000)
    const doneAt = phone.frames.findIndex(({ type }) => type === 'DONE')
    t.ok(doneAt > 0)
    const names = phone.frames
      .slice(doneAt)
      .flatMap((frame) => (frame.type === 'NOTIFY_GROUP' ? [frame.target?.name] : []))
    t.same([...new Set(names)], ['b'])
    t.ok(phone.frames.slice(0, doneAt).some((frame) => frame.type === 'NOTIFY_GROUP' && frame.target?.name === 'a'))
    await stage.stop()
  })
}

t.test('a catch-up that is under way does not bring back a topic that the device leaves', async (t) => {
  const settings = { groupCacheBytesMax: 1, catchUpBufferedBytesMax: 300 }
  const stage = await oneWorker({ settings })
  const { clock } = stage
  const groups = groupsOf(stage)
  await groups.subscribe('a', [1])
  for (let id = 1n; id <= 30n; id++) await groups.send('a', id)
  answerRequests(stage, () => groups.unsubscribe('a'))
  const phone = stage.connect()
  await clock.until(() => phone.ofType('NOTIFY_GROUP') > 0, 10_000)
  phone.end.send(encodeFrame({ type: 'UNSUBSCRIBE', request: 7, registration: 1, topic: 'a' }))
  await clock.until(() => phone.ofType('DONE') > 0, 10_000)
  const before = groupIds(phone).length
  t.ok(before < 30, `${before} of 30 were sent before DONE`)
  await groups.send('a', 31n)
  await clock.advance(5_000)
  t.equal(groupIds(phone).length, before)
  await stage.stop()
})

t.test('beyond its limit, a worker names no registrations for a new set of numbers', async (t) => {
  const audiences = new Audiences()
  const topics = Array.from({ length: SETS_MAX }, (_, i) => audiences.topicOf('s', [i + 1]))
  t.equal(new Set(topics).size, SETS_MAX, 'the last of them is for all other sets')
  t.equal(topics.at(-1), audiences.topicOf('s', [9_999]))
  t.same(audiences.namedOf([9_999]), [])
  t.same(audiences.namedOf([1]), [1])
  let published = 0
  audiences.publishAll('s', () => ++published)
  t.equal(published, SETS_MAX)
})
