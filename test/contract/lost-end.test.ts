/**
 * A stream loses its last records, as after a full disk. nats-server 2.9 then assigns their sequences again but keeps
 * the consumer, which regards records with these sequences as acknowledged. None of the new records may be lost.
 */
import t from 'tap'
import type { Delivery } from '../../src/nats/broker.js'
import { LineProxy } from '../faults/proxy.js'
import { loseRecords, startNats } from '../support/nats.js'
import { untilReconnected } from './reconnected.js'
import { bytes, Collected, text } from './suite.js'

const STREAM = 'MESSAGES_1'
const OPTIONS = { durable: 'route', ackWaitMs: 1_000, pendingMax: 100 }
const FIRST = ['a', 'b', 'c', 'd']

async function stage(t: Parameters<typeof startNats>[0]) {
  const nats = await startNats(t)
  const line = await LineProxy.open(() => ({ host: '127.0.0.1', port: nats.server.port }))
  t.teardown(() => line.close())
  const writer = await nats.brokerAs('core', 'writer')
  const reader = await nats.brokerAs('core', 'reader', `nats://127.0.0.1:${line.port}`)
  const received = new Collected<Delivery>()
  const consumption = await reader.log(STREAM).consume(OPTIONS, (delivery) => {
    delivery.ack()
    received.add(delivery)
  })
  t.teardown(() => consumption.stop())
  const append = async (texts: readonly string[]) => {
    for (const text of texts) await writer.log(STREAM).append(`msg.1.dev_a.${text}`, bytes(text))
  }
  await append(FIRST)
  await received.until(FIRST.length)
  while ((await writer.log(STREAM).state()).messages > 0);
  return { nats, line, writer, reader, received, append }
}

const bodies = (deliveries: readonly Delivery[]) => deliveries.map(({ body }) => text(body))

t.test('records stored after the loss are delivered, and the consumer stands where its stream does', async (t) => {
  const { nats, writer, reader, received, append } = await stage(t)
  const reconnected = untilReconnected([writer, reader])
  await nats.server.stop()
  loseRecords(nats.dataDir, STREAM)
  await nats.start()
  await reconnected
  t.equal((await writer.log(STREAM).state()).lastSequence, 0)
  await append(['e', 'f'])
  t.same(bodies(await received.until(6)), [...FIRST, 'e', 'f'])
  const answer = await writer.bus.request(`$JS.API.CONSUMER.INFO.${STREAM}.${OPTIONS.durable}`, bytes(''), {
    timeoutMs: 5_000,
  })
  const { delivered } = JSON.parse(text(answer)) as { delivered: { stream_seq: number } }
  t.equal(delivered.stream_seq, 2, 'the position of the consumer')
})

t.test('they are also delivered if the stream has outgrown its old end before the consumer reconnects', async (t) => {
  const { nats, line, writer, reader, received, append } = await stage(t)
  const reconnected = { writer: untilReconnected([writer]), reader: untilReconnected([reader]) }
  line.set({ mode: 'cut' })
  await nats.server.stop()
  loseRecords(nats.dataDir, STREAM)
  await nats.start()
  await reconnected.writer
  const second = ['e', 'f', 'g', 'h', 'i', 'j']
  await append(second)
  line.set({ mode: 'pass' })
  await reconnected.reader
  // The records beyond the old end are delivered first, and perhaps once more with the others.
  const seen = new Set<string>()
  for (let count = FIRST.length + 1; seen.size < second.length; count++) {
    const latest = (await received.until(count))[count - 1]
    if (latest) seen.add(text(latest.body))
  }
  t.same([...seen].sort(), second)
})
