/** Headroom estimates the fill of a stream in the process that writes to it. */
import t from 'tap'
import { Value } from 'typebox/value'
import type { Link } from '../../src/nats/client/link.js'
import { Headroom } from '../../src/nats/server/headroom.js'
import { NatsSettings } from '../../src/nats/settings.js'

const BYTES_MAX = 1_000_000

/** A Headroom that knows the limit of the empty stream S. `link.connected` can be set. */
async function headroomOfEmptyStream() {
  const asked = { times: 0 }
  const info = { config: { max_bytes: BYTES_MAX, discard: 'new' }, state: { bytes: 0 } }
  const link = {
    connected: true,
    settings: Value.Default(NatsSettings, {}) as NatsSettings,
    ask: async () => {
      asked.times++
      return { data: Buffer.from(JSON.stringify(info)) } as unknown as Awaited<ReturnType<Link['ask']>>
    },
  }
  const errors: unknown[] = []
  const headroom = new Headroom(link, (_, error) => errors.push(error))
  const firstRefusal = headroom.refusal('S', 0)
  await new Promise(setImmediate)
  return { headroom, link, asked, errors, firstRefusal }
}

t.test('the first append to a stream is allowed, and makes one request for its limit', async (t) => {
  const { asked, errors, firstRefusal } = await headroomOfEmptyStream()
  t.equal(firstRefusal, null)
  t.equal(asked.times, 1)
  t.same(errors, [])
})

t.test('appends without a connection are not counted, because they never reach the stream', async (t) => {
  const { headroom, link, errors } = await headroomOfEmptyStream()
  link.connected = false
  for (let n = 0; n < 10; n++) t.equal(headroom.refusal('S', BYTES_MAX / 2), null, 'the append itself will fail')
  link.connected = true
  t.equal(headroom.refusal('S', 1_000), null, 'the stream counts as empty')
  t.same(errors, [])
})

t.test('appends with a connection are counted, and refused as full when their sum exceeds the limit', async (t) => {
  const { headroom, errors } = await headroomOfEmptyStream()
  for (let n = 0; n < 3; n++) headroom.refusal('S', BYTES_MAX / 2)
  t.match(headroom.refusal('S', 1_000), { code: 'full' })
  t.same(errors, [])
})
