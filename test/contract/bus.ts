import { type Broker, BrokerError, type BusMessage } from '../../src/nats/broker.js'
import { bytes, Collected, type Contract, codeOf, text } from './suite.js'

const WAIT = { timeoutMs: 20_000 }

export const busContract: Contract = (t, open) => {
  t.test('messages of one publisher on a subject arrive in order', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    b.bus.subscribe('rx.one', (message) => received.add(text(message.body)))
    await served(a, b)
    const sent = Array.from({ length: 50 }, (_, i) => `m${i}`)
    for (const body of sent) a.bus.publish('rx.one', bytes(body))
    t.same(await received.until(50), sent)
  })

  t.test('a subscription with a wildcard gets messages on matching subjects only', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    b.bus.subscribe('rx.*', ({ subject }) => subject.startsWith('rx.ping') || received.add(subject))
    await served(a, b)
    for (const subject of ['rx.x', 'tx.i.w', 'rx.y']) a.bus.publish(subject, bytes(''))
    t.same(await received.until(2), ['rx.x', 'rx.y'])
  })

  t.test('an invalid subject throws RangeError, and nothing of it reaches the server', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    b.bus.subscribe('rx.one', (message) => received.add(text(message.body)))
    await served(a, b)
    for (const wrong of ['rx.one 2\r\nhi\r\nPUB x', 'rx.a b', 'rx.\t', 'rx.\0', 'rx.\x7f', 'rx.*', 'rx.>']) {
      t.throws(() => a.bus.publish(wrong, bytes('')), RangeError, JSON.stringify(wrong))
      t.throws(() => a.bus.publish('rx.one', bytes('not sent'), { reply: wrong }), RangeError, 'as a reply subject')
      await t.rejects(a.bus.request(wrong, bytes(''), WAIT), RangeError, 'as the subject of a request')
    }
    t.throws(() => a.bus.subscribe('rx.one 7\r\nPUB rx.one 2\r\nhi\r\nSUB rx.two', () => {}), RangeError)
    a.bus.publish('rx.one', bytes('last'))
    t.same(await received.until(1), ['last'], 'the first message that arrives is the valid one')
  })

  t.test('a request resolves with the reply of a subscriber', async (t) => {
    const { a, b } = await open(t)
    b.bus.subscribe('device.request', (message) => b.bus.publish(message.reply, bytes(`${text(message.body)}!`)))
    await served(a, b)
    t.equal(text(await a.bus.request('device.request', bytes('hello'), WAIT)), 'hello!')
  })

  t.test('a request on a subject without a subscriber rejects at once as no_responders', async (t) => {
    const { a } = await open(t)
    t.equal((await codeOf(a.bus.request('device.request', bytes(''), WAIT))).code, 'no_responders')
  })

  t.test('a request that no subscriber answers rejects as timeout', async (t) => {
    const { a, b } = await open(t)
    b.bus.subscribe('device.request', () => {})
    await served(a, b)
    t.equal((await codeOf(a.bus.request('device.request', bytes(''), { timeoutMs: 100 }))).code, 'timeout')
  })

  t.test(
    'a publish with a reply subject, on a subject without a subscriber, gets an empty noResponders reply',
    async (t) => {
      const { a } = await open(t)
      const received = new Collected<BusMessage>()
      a.bus.subscribe('rx.router', received.add)
      a.bus.publish('tx.i.dead', bytes('batch'), { reply: 'rx.router' })
      const [answer] = await received.until(1)
      t.match(answer, { noResponders: true, subject: 'rx.router' })
      t.equal(answer?.body.length, 0)
    },
  )

  t.test('an empty message of a publisher arrives without noResponders', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<BusMessage>()
    b.bus.subscribe('rx.one', received.add)
    await served(a, b)
    a.bus.publish('rx.one', bytes(''), { headers: { Trace: 'x' } })
    t.match((await received.until(1))[0], { noResponders: false, reply: '', headers: { Trace: 'x' } })
  })

  t.test('each message to a queue group reaches exactly one member', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    for (const broker of [a, b])
      broker.bus.subscribe('settle.queued', ({ body }) => received.add(text(body)), { queue: 'core' })
    await served(a, b)
    await served(b, a)
    const sent = Array.from({ length: 20 }, (_, i) => `m${i}`)
    for (const body of sent) a.bus.publish('settle.queued', bytes(body))
    await received.until(20)
    await served(a, b)
    await served(b, a)
    t.same([...received.all].sort(), [...sent].sort())
  })

  t.test('after unsubscribe() no message arrives, and a request rejects as no_responders', async (t) => {
    const { a, b } = await open(t)
    const received = new Collected<string>()
    const subscription = b.bus.subscribe('device.request', ({ reply, body }) => {
      received.add(text(body))
      b.bus.publish(reply, bytes('ok'))
    })
    await served(a, b)
    await a.bus.request('device.request', bytes('1'), WAIT)
    subscription.unsubscribe()
    await served(a, b)
    t.equal((await codeOf(a.bus.request('device.request', bytes('2'), WAIT))).code, 'no_responders')
    t.same(received.all, ['1'])
  })

  t.test('after a kill -9 of the server, subscriptions work again, and the status handler was called', async (t) => {
    const { a, b, restart } = await open(t)
    const received = new Collected<string>()
    b.bus.subscribe('rx.one', ({ body }) => received.add(text(body)))
    await served(a, b)
    const statuses: string[] = []
    a.onStatus((status) => statuses.push(status))
    await restart(true)
    await served(a, b)
    a.bus.publish('rx.one', bytes('again'))
    t.same(await received.until(1), ['again'])
    t.same(statuses, ['disconnected', 'reconnected'])
    t.ok(a.connected())
  })

  t.test('a request in progress when the connection is lost rejects as disconnected', async (t) => {
    const { a, b, restart } = await open(t)
    b.bus.subscribe('device.request', () => {})
    await served(a, b)
    const waiting = codeOf(a.bus.request('device.request', bytes(''), { timeoutMs: 60_000 }))
    await restart(true)
    t.equal((await waiting).code, 'disconnected')
  })
}

/** Resolves when the server knows the earlier subscriptions of b, and the earlier messages of a have reached b. */
async function served(a: Broker, b: Broker): Promise<void> {
  const subject = `rx.ping-${pings++}`
  const subscription = b.bus.subscribe(subject, ({ reply }) => b.bus.publish(reply, bytes('')))
  for (;;) {
    try {
      await a.bus.request(subject, bytes(''), WAIT)
      break
    } catch (error) {
      // The server does not know the subscription of b yet.
      if (!(error instanceof BrokerError && error.code === 'no_responders')) throw error
    }
  }
  subscription.unsubscribe()
}
let pings = 0
