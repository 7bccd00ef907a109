/** How full a stream is, as the process that writes to it reckons. */
import t from 'tap'
import { Value } from 'typebox/value'
import type { Link } from '../../src/nats/client/link.js'
import { Headroom } from '../../src/nats/server/headroom.js'
import { NatsSettings } from '../../src/nats/settings.js'

const BYTES_MAX = 1_000_000

t.test('what never left fills no stream, and nobody is asked about it while there is no connection', async (t) => {
  let questions = 0
  const info = { config: { max_bytes: BYTES_MAX, discard: 'new' }, state: { bytes: 0 } }
  const link = {
    connected: true,
    settings: Value.Default(NatsSettings, {}) as NatsSettings,
    ask: async () => {
      questions++
      return { data: Buffer.from(JSON.stringify(info)) } as unknown as Awaited<ReturnType<Link['ask']>>
    },
  }
  const reports: unknown[] = []
  const room = new Headroom(link, (_, error) => reports.push(error))
  t.equal(room.refusal('S', 0), null)
  await new Promise(setImmediate)
  t.equal(questions, 1, 'the limit is known now')

  link.connected = false
  for (let n = 0; n < 10; n++) t.equal(room.refusal('S', BYTES_MAX / 2), null, 'the append says itself why it fails')
  link.connected = true
  t.equal(room.refusal('S', 1_000), null, 'there is room as before')
  for (let n = 0; n < 3; n++) room.refusal('S', BYTES_MAX / 2)
  t.match(room.refusal('S', 1_000), { code: 'full' }, 'what was added is counted')
  t.same(reports, [])
})
