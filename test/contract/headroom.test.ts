/** Streams near their limits: the process refuses appends before nats-server would remove stored records. */
import t from 'tap'
import { INGRESS_STREAM, ingressSubject } from '../../protocol/subjects.js'
import { BrokerError } from '../../src/nats/broker.js'
import { connect } from '../../src/nats/connect.js'
import { RECORD_OVERHEAD_BYTES } from '../../src/nats/server/streams.js'
import { PUBLISHER_PROJECT, startNats } from '../support/nats.js'

const LIMIT_BYTES = 262_144
/** More records of 1,000 bytes than fit into the limit, whatever the overhead of a record. */
const RECORDS_MAX = LIMIT_BYTES / 1_000
const PATIENCE_MS = 20_000
const STREAM = 'MESSAGES_0'
const subjectOf = (n: number) => `msg.0.dev_00000000000000000000.${n}`

t.test('a process that keeps headroom fills MESSAGES_0', async (t) => {
  const nats = await startNats(t, { store: { messagesBytesMax: LIMIT_BYTES } })
  const broker = await connect(nats.settingsAs('core'), { name: 'headroom', keepsHeadroom: true })
  t.teardown(() => broker.close())
  const log = broker.log(STREAM)
  /** The sequence of the stored record, or the code of the refusal. */
  const append = async (n: number): Promise<number | string> => {
    try {
      return await log.append(subjectOf(n), Buffer.alloc(1_000))
    } catch (error) {
      if (error instanceof BrokerError) return error.code
      throw error
    }
  }
  let accepted = 0
  let answer: number | string = 0

  await t.test('an append is refused as full before the server removes a stored record', async (t) => {
    answer = await append(accepted)
    for (; typeof answer === 'number' && accepted < RECORDS_MAX; answer = await append(accepted)) accepted++
    t.equal(answer, 'full')
    t.match(await log.state(), { firstSequence: 1, messages: accepted }, 'each accepted record is stored')
  })

  await t.test('more than a quarter of the limit is used before an append is refused', async (t) => {
    t.ok(accepted * 1_000 > LIMIT_BYTES / 4, `${accepted} records`)
  })

  await t.test('appends succeed again after the records are deleted', async (t) => {
    for (let sequence = 1; sequence <= accepted; sequence++) await log.delete(sequence)
    const deadlineMs = Date.now() + PATIENCE_MS
    // The process refuses without asking the server. If the server died, the refusals would never end: hence connected().
    while (answer === 'full' && broker.connected() && Date.now() < deadlineMs) {
      // A refusal takes no time, so this gives the request for the state of the stream its turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve))
      answer = await append(accepted)
    }
    t.ok(broker.connected(), 'the server still runs')
    t.equal(answer, accepted + 1)
  })
})

t.test('INGRESS, which publishers write themselves, has room for 20 records', async (t) => {
  const recordBytes = 1_024
  const records = 20
  const ingressBytesMax = records * (recordBytes + RECORD_OVERHEAD_BYTES)
  const nats = await startNats(t, { store: { ingressBytesMax, ingressRecordBytes: recordBytes } })
  const publisher = await connect(nats.settingsAs('publisher'), { name: 'publisher' })
  t.teardown(() => publisher.close())
  const log = publisher.log(INGRESS_STREAM)
  const headers = { 'Content-Type': 'application/json' }
  const append = (bytes: number) => log.append(ingressSubject(PUBLISHER_PROJECT), Buffer.alloc(bytes), { headers })
  const bodyBytesMax = recordBytes - headerBytes(headers)

  await t.test('a record longer than the record limit is refused', async (t) => {
    await t.rejects(append(bodyBytesMax + 1), { code: 'unavailable' })
  })

  await t.test('20 records of the longest size are stored', async (t) => {
    for (let n = 1; n <= records; n++) t.equal(await append(bodyBytesMax), n)
  })

  await t.test('the 21st record is refused as full, whatever its size, and no stored record is removed', async (t) => {
    for (const bytes of [1, bodyBytesMax]) await t.rejects(append(bytes), { code: 'full' })
    const admin = await nats.brokerAs('admin')
    t.match(await admin.log(INGRESS_STREAM).state(), { firstSequence: 1, messages: records })
  })
})

/** The bytes of headers on the wire: a line with the version, one line for each header, and an empty line. */
const headerBytes = (headers: Record<string, string>) =>
  Object.entries(headers).reduce(
    (sum, [name, value]) => sum + `${name}: ${value}\r\n`.length,
    'NATS/1.0\r\n\r\n'.length,
  )
