import type { Delivery } from '../../src/nats/broker.js'
import { bytes, Collected, type Contract, text } from './suite.js'

const LOG = 'MESSAGES_1'
const OPTIONS = { durable: 'route', ackWaitMs: 500, pendingMax: 100 }
const subjectOf = (i: number) => `msg.1.dev_a.${i}`

export const consumeContract: Contract = (t, open) => {
  t.test(
    'each record, stored before or after consume(), is delivered once, in order, and removed by its ack',
    async (t) => {
      const { a, b } = await open(t)
      const received = new Collected<Delivery>()
      for (let i = 0; i < 150; i++) await a.log(LOG).append(subjectOf(i), bytes(`${i}`), { messageId: `${i}` })
      const consumption = await b.log(LOG).consume(OPTIONS, (delivery) => {
        delivery.ack()
        received.add(delivery)
      })
      for (let i = 150; i < 300; i++) await a.log(LOG).append(subjectOf(i), bytes(`${i}`), { messageId: `${i}` })
      const all = await received.until(300)
      t.same(
        all.map(({ body }) => text(body)),
        all.map((_, i) => `${i}`),
      )
      t.ok(all.every(({ deliveryCount, headers }) => deliveryCount === 1 && headers === null))
      t.match(all[0], { subject: subjectOf(0), sequence: 1 })
      while ((await a.log(LOG).state()).messages > 0);
      await consumption.stop()
    },
  )

  t.test('an unacknowledged record is delivered again, with a rising deliveryCount', async (t) => {
    const { a } = await open(t)
    const received = new Collected<Delivery>()
    const consumption = await a.log(LOG).consume(OPTIONS, received.add)
    await a.log(LOG).append(subjectOf(1), bytes('x'))
    const all = await received.until(3)
    t.same(
      all.map(({ deliveryCount }) => deliveryCount),
      [1, 2, 3],
    )
    t.same(new Set(all.map(({ sequence }) => sequence)), new Set([1]))
    await consumption.stop()
  })

  t.test('a record with a nack is delivered again after the delay of the nack, not after ackWaitMs', async (t) => {
    const { a } = await open(t)
    const received = new Collected<string>()
    const consumption = await a.log(LOG).consume({ ...OPTIONS, ackWaitMs: 60_000 }, (delivery) => {
      if (delivery.deliveryCount === 1) delivery.nack(50)
      else delivery.ack()
      received.add(`${text(delivery.body)} ${delivery.deliveryCount}`)
    })
    await a.log(LOG).append(subjectOf(1), bytes('x'))
    t.same(await received.until(2), ['x 1', 'x 2'])
    await consumption.stop()
  })

  t.test('at most pendingMax records are delivered and unacknowledged at once', async (t) => {
    const { a } = await open(t)
    const received = new Collected<Delivery>()
    const options = { ...OPTIONS, ackWaitMs: 60_000, pendingMax: 5 }
    const consumption = await a.log(LOG).consume(options, received.add)
    for (let i = 0; i < 12; i++) await a.log(LOG).append(subjectOf(i), bytes(`${i}`))
    await received.until(5)
    await a.log(LOG).state()
    t.equal(received.all.length, 5)
    received.all[0]?.ack()
    await received.until(6)
    await a.log(LOG).state()
    t.equal(received.all.length, 6)
    await consumption.stop()
  })

  t.test('two processes that consume the same durable share its records', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    const acknowledge = (delivery: Delivery) => {
      delivery.ack()
      received.add(text(delivery.body))
    }
    const first = await a.log(LOG).consume(OPTIONS, acknowledge)
    const second = await b.log(LOG).consume(OPTIONS, acknowledge)
    for (let i = 0; i < 40; i++) await a.log(LOG).append(subjectOf(i), bytes(`${i}`))
    await received.until(40)
    while ((await a.log(LOG).state()).messages > 0);
    t.equal(new Set(received.all).size, received.all.length)
    await first.stop()
    await second.stop()
  })

  t.test('a record that a stopped process did not acknowledge is delivered to the next process', async (t) => {
    const { a, b } = await open(t)
    const lost = new Collected<Delivery>()
    const first = await a.log(LOG).consume(OPTIONS, lost.add)
    await b.log(LOG).append(subjectOf(1), bytes('x'))
    await lost.until(1)
    await first.stop()
    const received = new Collected<Delivery>()
    const second = await b.log(LOG).consume(OPTIONS, (delivery) => {
      delivery.ack()
      received.add(delivery)
    })
    t.match((await received.until(1))[0], { sequence: 1, deliveryCount: 2 })
    await second.stop()
  })

  t.test('a durable consumer that createConsumer() makes for new records of one project', async (t) => {
    const { a, b } = await open(t)
    const log = a.log('PUSH_EVENTS')
    const options = {
      durable: 'reader',
      filter: 'push.event.one.*',
      startsAt: 'new' as const,
      ackWaitMs: 60_000,
      pendingMax: 2,
    }

    await t.test('has no backlog before it exists', async (t) => {
      await log.append('push.event.one.delivered', bytes('before'))
      t.equal(await log.backlog('reader'), null)
    })

    await t.test('is created once by two calls, and has no backlog of older records', async (t) => {
      await log.createConsumer(options)
      await log.createConsumer(options)
      t.equal(await log.backlog('reader'), 0)
    })

    await t.test('counts the records of its project as backlog while no process consumes it', async (t) => {
      for (const n of [1, 2, 3]) await log.append('push.event.one.delivered', bytes(`${n}`))
      await log.append('push.event.two.delivered', bytes('of another project'))
      t.equal(await log.backlog('reader'), 3)
    })

    await t.test('counts delivered records as backlog until they are acknowledged', async (t) => {
      const received = new Collected<Delivery>()
      const consumption = await b.log('PUSH_EVENTS').consume(options, received.add)
      await received.until(2)
      t.equal(await log.backlog('reader'), 3)
      for (const delivery of received.all) delivery.ack()
      const all = await received.until(3)
      t.same(
        all.map(({ body }) => text(body)),
        ['1', '2', '3'],
      )
      all[2]?.ack()
      while ((await log.backlog('reader')) !== 0);
      await consumption.stop()
    })

    await t.test('is gone after one or two calls of deleteConsumer()', async (t) => {
      await log.deleteConsumer('reader')
      await log.deleteConsumer('reader')
      t.equal(await log.backlog('reader'), null)
    })
  })

  for (const kill of [false, true]) {
    t.test(`after a ${kill ? 'kill -9' : 'restart'} of the server, consuming goes on with new records`, async (t) => {
      const { a, b, restart } = await open(t)
      const received = new Collected<string>()
      const consumption = await a.log(LOG).consume(OPTIONS, (delivery) => {
        delivery.ack()
        received.add(text(delivery.body))
      })
      for (let i = 0; i < 20; i++) await b.log(LOG).append(subjectOf(i), bytes(`${i}`))
      await received.until(20)
      await restart(kill)
      for (let i = 20; i < 40; i++) await b.log(LOG).append(subjectOf(i), bytes(`${i}`))
      while (new Set(received.all).size < 40) await received.until(received.all.length + 1)
      t.equal(new Set(received.all).size, 40)
      await consumption.stop()
    })
  }
}
