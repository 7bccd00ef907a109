/** The contracts of tails and tables, for a connection that may create no consumers, on a real server. */
import t from 'tap'
import { startNats } from '../support/nats.js'
import { untilReconnected } from './reconnected.js'
import { bytes, Collected, codeOf, type OpenGround } from './suite.js'
import { tableContract } from './table.js'
import { tailContract } from './tail.js'

t.setTimeout(120_000)

const READING = { mayCreateConsumers: false }

const open: OpenGround = async (t) => {
  const nats = await startNats(t)
  const brokerAs = (name: string) => nats.brokerAs('unrestricted', name, nats.url, READING)
  const [a, b] = [await brokerAs('a'), await brokerAs('b')]
  return {
    a,
    b,
    mayTimeOut: true,
    restart: async (kill) => {
      const reconnected = untilReconnected([a, b])
      if (kill) await nats.kill9()
      else await nats.stop()
      await nats.start()
      await reconnected
    },
  }
}

t.test('the contract of a tail', async (t) => tailContract(t, open))
t.test('the contract of a table', async (t) => tableContract(t, open))

t.test('a tail without a filter is refused', async (t) => {
  const { a } = await open(t)
  t.equal((await codeOf(a.log('BROADCAST').tail({ fromSequence: 1 }, () => {}))).code, 'unavailable')
})

t.test('each record of a burst arrives, in order', async (t) => {
  const { a, b } = await open(t)
  const received = new Collected<number>()
  const tail = await b
    .log('BROADCAST')
    .tail({ fromSequence: 1, filter: 'broadcast.>' }, ({ sequence }) => received.add(sequence))
  await Promise.all(Array.from({ length: 2_000 }, () => a.log('BROADCAST').append('broadcast.p.app.x', bytes('x'))))
  t.same(
    await received.until(2_000),
    Array.from({ length: 2_000 }, (_, i) => i + 1),
  )
  await tail.stop()
})

t.test('a user who may not subscribe to the records reads them', async (t) => {
  const nats = await startNats(t)
  const core = await nats.brokerAs('core', 'core', nats.url, READING)
  const all = await nats.brokerAs('unrestricted')
  const received = new Collected<number>()
  const tail = await core
    .log('BROADCAST')
    .tail({ fromSequence: 1, filter: 'broadcast.>' }, ({ sequence }) => received.add(sequence))
  await all.log('BROADCAST').append('broadcast.p.app.x', bytes('x'))
  t.same(await received.until(1), [1])
  await tail.stop()
})
