/** A stream that is nearly full: what nats-server does then, and what keeps us from it. */
import t from 'tap'
import { INGRESS_STREAM, ingressSubject } from '../../protocol/subjects.js'
import { BrokerError } from '../../src/nats/broker.js'
import { connect } from '../../src/nats/connect.js'
import { RECORD_OVERHEAD_BYTES } from '../../src/nats/server/streams.js'
import { PUBLISHER_PROJECT, startNats } from '../support/nats.js'

const LIMIT_BYTES = 262_144
/** More than the limit has room for, whatever a record costs. */
const RECORDS_MAX = LIMIT_BYTES / 1_000
const PATIENCE_MS = 20_000
const STREAM = 'MESSAGES_0'
const subjectOf = (n: number) => `msg.0.dev_00000000000000000000.${n}`

t.test('refuses before the server would remove what was stored, and goes on when there is room again', async (t) => {
  const nats = await startNats(t, { store: { messagesBytesMax: LIMIT_BYTES } })
  const broker = await connect(nats.settingsAs('core'), { name: 'room', keepsHeadroom: true })
  t.teardown(() => broker.close())
  const log = broker.log(STREAM)
  const append = async (n: number): Promise<number | string> => {
    try {
      return await log.append(subjectOf(n), Buffer.alloc(1_000))
    } catch (error) {
      if (error instanceof BrokerError) return error.code
      throw error
    }
  }
  let accepted = 0
  let answer: number | string = await append(accepted)
  for (; typeof answer === 'number' && accepted < RECORDS_MAX; answer = await append(accepted)) accepted++
  t.equal(answer, 'full')
  t.match(await log.state(), { firstSequence: 1, messages: accepted }, 'everything that was accepted is there')
  t.ok(accepted * 1_000 > LIMIT_BYTES / 4, `room is used: ${accepted} records`)

  for (let sequence = 1; sequence <= accepted; sequence++) await log.delete(sequence)
  const deadlineMs = Date.now() + PATIENCE_MS
  // A refusal is given without the server: one that has died would be refused for ever.
  while (answer === 'full' && broker.connected() && Date.now() < deadlineMs) {
    // It takes no time either: others have their turn, above all the look at the stream.
    await new Promise((resolve) => setImmediate(resolve))
    answer = await append(accepted)
  }
  t.ok(broker.connected(), 'the server is there')
  t.equal(answer, accepted + 1)
})

t.test(
  'what publishers write themselves is refused by count, before any byte could push out what was stored',
  async (t) => {
    const recordBytes = 1_024
    const records = 20
    const ingressBytesMax = records * (recordBytes + RECORD_OVERHEAD_BYTES)
    const nats = await startNats(t, { store: { ingressBytesMax, ingressRecordBytes: recordBytes } })
    const publisher = await connect(nats.settingsAs('publisher'), { name: 'publisher' })
    t.teardown(() => publisher.close())
    const log = publisher.log(INGRESS_STREAM)
    const headers = { 'Content-Type': 'application/json' }
    const append = (bytes: number) => log.append(ingressSubject(PUBLISHER_PROJECT), Buffer.alloc(bytes), { headers })
    const longest = recordBytes - headerBytes(headers)
    await t.rejects(append(longest + 1), { code: 'unavailable' }, 'too long')
    for (let n = 1; n <= records; n++) t.equal(await append(longest), n)
    // Small ones find no gap either.
    for (const bytes of [1, longest]) await t.rejects(append(bytes), { code: 'full' })
    const admin = await nats.brokerAs('admin')
    t.match(await admin.log(INGRESS_STREAM).state(), { firstSequence: 1, messages: records })
  },
)

/** As they are sent: a line that names the version, one for each, an empty one. */
const headerBytes = (headers: Record<string, string>) =>
  Object.entries(headers).reduce(
    (sum, [name, value]) => sum + `${name}: ${value}\r\n`.length,
    'NATS/1.0\r\n\r\n'.length,
  )
