import type { LogRecord } from '../../src/nats/broker.js'
import { bytes, Collected, type Contract, codeOf, text } from './suite.js'

const LOG = 'BROADCAST'
const ALL = 'broadcast.>'
const SUBJECT = 'broadcast.p.app.x'

export const tailContract: Contract = (t, open) => {
  t.test('a tail gets each record from a sequence on in order, stored before or after it began', async (t) => {
    const { a, b } = await open(t)
    for (let i = 1; i <= 10; i++) await a.log(LOG).append(SUBJECT, bytes(`${i}`))
    const received = new Collected<LogRecord>()
    const tail = await b.log(LOG).tail({ fromSequence: 4, filter: ALL }, received.add)
    for (let i = 11; i <= 20; i++) await a.log(LOG).append(SUBJECT, bytes(`${i}`))
    const all = await received.until(17)
    t.same(
      all.map(({ sequence, body }) => `${sequence} ${text(body)}`),
      Array.from({ length: 17 }, (_, i) => `${i + 4} ${i + 4}`),
    )
    await tail.stop()
  })

  t.test('a tail with a filter gets records of matching subjects only', async (t) => {
    const { a } = await open(t)
    const received = new Collected<string>()
    const tail = await a
      .log(LOG)
      .tail({ fromSequence: 1, filter: 'broadcast.p.topic.>' }, ({ subject }) => received.add(subject))
    for (const name of ['app.x', 'topic.y', 'app.z', 'topic.w'])
      await a.log(LOG).append(`broadcast.p.${name}`, bytes(''))
    t.same(await received.until(2), ['broadcast.p.topic.y', 'broadcast.p.topic.w'])
    await tail.stop()
  })

  t.test('a tail from a sequence that does not exist yet gets records from that sequence on', async (t) => {
    const { a } = await open(t)
    await a.log(LOG).append(SUBJECT, bytes('1'))
    const received = new Collected<number>()
    const tail = await a.log(LOG).tail({ fromSequence: 3, filter: ALL }, ({ sequence }) => received.add(sequence))
    for (let i = 2; i <= 4; i++) await a.log(LOG).append(SUBJECT, bytes(`${i}`))
    t.same(await received.until(2), [3, 4])
    await tail.stop()
  })

  for (const kill of [false, true]) {
    t.test(`across a ${kill ? 'kill -9' : 'restart'} of the server a tail gets each record once`, async (t) => {
      const { a, b, restart } = await open(t)
      const received = new Collected<number>()
      const tail = await b.log(LOG).tail({ fromSequence: 1, filter: ALL }, ({ sequence }) => received.add(sequence))
      for (let round = 0; round < 3; round++) {
        await Promise.all(Array.from({ length: 200 }, () => a.log(LOG).append(SUBJECT, bytes('x'))))
        if (round < 2) await restart(kill)
      }
      t.same(
        await received.until(600),
        Array.from({ length: 600 }, (_, i) => i + 1),
      )
      await tail.stop()
    })
  }

  t.test('a stopped tail gets no record', async (t) => {
    const { a } = await open(t)
    const received = new Collected<number>()
    const other = new Collected<number>()
    const tail = await a.log(LOG).tail({ fromSequence: 1, filter: ALL }, ({ sequence }) => received.add(sequence))
    await tail.stop()
    const second = await a.log(LOG).tail({ fromSequence: 1, filter: ALL }, ({ sequence }) => other.add(sequence))
    await a.log(LOG).append(SUBJECT, bytes('x'))
    await other.until(1)
    t.same(received.all, [])
    await second.stop()
  })
}

/** For tails that a consumer delivers. */
export const consumerTailContract: Contract = (t, open) => {
  t.test('a tail with a filter wider than each subject of the stream rejects as unavailable', async (t) => {
    const { a } = await open(t)
    const events = a.log('EVENTS_0')
    const error = await codeOf(events.tail({ fromSequence: 1, filter: 'event.*.*.final' }, () => {}))
    t.equal(error.code, 'unavailable')
    const tail = await events.tail({ fromSequence: 1, filter: 'event.0.*.final' }, () => {})
    await tail.stop()
  })
}
