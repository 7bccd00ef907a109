/** How full the streams are: ratios of their limits, growth, and days until they are full. */
import t from 'tap'
import { serveMetrics } from '../../src/observe/metrics.js'
import { emptyMetrics } from '../../src/observe/registry.js'
import { Growth, StoreFills } from '../../src/store/fills.js'
import { SimBroker } from '../sim/broker.js'

const KIB = 1024
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const MINUTE_MS = 60_000

t.test('growth is unknown for ten minutes, and then the difference to the oldest sample of a day', (t) => {
  const growth = new Growth()
  growth.add(0, 1_000)
  t.equal(growth.perDay(9 * MINUTE_MS, 2_000), null)
  t.equal(growth.perDay(12 * HOUR_MS, 2_000), 2_000)
  for (let hour = 1; hour <= 72; hour++) growth.add(hour * HOUR_MS, 1_000 + hour * 100)
  const perDay = growth.perDay(72 * HOUR_MS, 1_000 + 72 * 100)
  t.equal(Math.round(perDay ?? 0), 2_400, 'what grew three days ago is forgotten')
  t.ok((growth.perDay(72 * HOUR_MS, 0) ?? 0) < 0, 'a stream may shrink')
  t.end()
})

t.test('a stream that grows is reported with its ratio and the days until it refuses', async (t) => {
  const sim = new SimBroker({ store: { split: 1, messagesBytesMax: 1_024 * KIB, ingressBytesMax: 1_024 * KIB } })
  const broker = sim.brokerFor('core')
  const fills = new StoreFills(broker, sim.clock, ['MESSAGES_0', 'INGRESS', 'AUDIT', 'NO_SUCH_STREAM'])
  await sim.clock.advanceUntil(fills.start())
  t.same(
    fills.report().map(({ ratio, fullInDays }) => [ratio, fullInDays]),
    [0, 1, 2].map(() => [0, null]),
    'a stream that does not answer is left out',
  )
  const state = () => sim.server.stream('MESSAGES_0').state()
  const append = async (n: number) => {
    const body = new Uint8Array(10 * KIB)
    for (let i = 0; i < n; i++) await sim.clock.advanceUntil(broker.log('MESSAGES_0').append('msg.0.dev.1', body))
  }
  await append(10)
  await sim.clock.advance(HOUR_MS)
  const [fullest] = fills.report()
  t.match(fullest, { stream: 'MESSAGES_0', records: 10, bytes: state().bytes, bytesMax: state().refusesAtBytes })
  t.equal(fullest?.ratio, state().bytes / state().refusesAtBytes)
  const perDay = (state().bytes / (HOUR_MS + MINUTE_MS / 2)) * DAY_MS
  const days = (state().refusesAtBytes - state().bytes) / perDay
  t.ok(Math.abs((fullest?.fullInDays ?? 0) / days - 1) < 0.1, `full in ${fullest?.fullInDays} days, about ${days}`)
  t.match(
    fills.report().find(({ stream }) => stream === 'INGRESS'),
    { recordsMax: Math.floor((1_024 * KIB) / (32 * KIB + 512)) },
  )
  fills.stop()
})

t.test('/readyz of the metrics port has the details of a core', async (t) => {
  const details = () => ({ store: [{ stream: 'EVENTS_0', ratio: 0.5 }] })
  const server = await serveMetrics(emptyMetrics('core'), { host: '127.0.0.1', port: 0 }, () => true, details)
  t.teardown(() => server.stop())
  const answer = await fetch(`http://127.0.0.1:${server.port}/readyz`)
  t.same(await answer.json(), { status: 'ready', store: [{ stream: 'EVENTS_0', ratio: 0.5 }] })
})
