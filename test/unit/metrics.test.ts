import { readFileSync } from 'node:fs'
import { Counter } from 'prom-client'
import t from 'tap'
import { metricsReference } from '../../src/cli/metrics-reference.js'
import { CoreMetrics, CountedEvents, countedAccept, registerCoreMetrics } from '../../src/core/metrics.js'
import { LoopLag } from '../../src/observe/lag.js'
import { MergedMetrics, snapshotOf } from '../../src/observe/merge.js'
import { createMetrics, serveMetrics } from '../../src/observe/metrics.js'
import { PlainMetrics } from '../../src/observe/plain-metrics.js'
import { emptyMetrics } from '../../src/observe/registry.js'
import { SimBroker } from '../sim/broker.js'

t.test('GET /metrics answers in the text format, and another path answers 404', async (t) => {
  const registry = createMetrics('core')
  new Counter({ name: 'borealis_things_total', help: 'Things', registers: [registry] }).inc(3)
  const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 }, () => true)
  t.teardown(() => server.stop())
  const answer = await fetch(`http://127.0.0.1:${server.port}/metrics`)
  t.equal(answer.status, 200)
  t.match(await answer.text(), /borealis_things_total\{part="core"\} 3/)
  t.equal((await fetch(`http://127.0.0.1:${server.port}/`)).status, 404)
})

t.test('serving metrics on a port in use rejects with EADDRINUSE', async (t) => {
  const registry = createMetrics('core')
  const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 }, () => true)
  t.teardown(() => server.stop())
  await t.rejects(
    serveMetrics(registry, { host: '127.0.0.1', port: server.port }, () => true),
    { code: 'EADDRINUSE' },
  )
})

t.test('after stop() the port of the metrics refuses connections', async (t) => {
  const server = await serveMetrics(createMetrics('core'), { host: '127.0.0.1', port: 0 }, () => true)
  await fetch(`http://127.0.0.1:${server.port}/metrics`)
  await server.stop()
  await t.rejects(fetch(`http://127.0.0.1:${server.port}/metrics`))
})

t.test('docs/operate/metrics.md equals the reference made from the registries', async (t) => {
  const written = readFileSync('docs/operate/metrics.md', 'utf8')
  t.equal(written, metricsReference(), 'mend it with: npx borealis config metrics > docs/operate/metrics.md')
})

async function snapshotsOfTwoProcesses() {
  const registries = [1, 2].map((n) => {
    const registry = emptyMetrics('transport')
    const plain = new PlainMetrics(registry, 'x_')
    plain.count('sent_total', 'Sent', () => n * 10)
    plain.counts('closes_total', 'Closes', 'reason', () => [[n === 1 ? 'idle' : 'bye', n]])
    plain.level('sessions', 'Sessions', () => n)
    plain.level('lag', 'Lag', () => n, 'max')
    return registry
  })
  const [one, two] = await Promise.all(registries.map(snapshotOf))
  if (!one || !two) throw new Error('two snapshots were expected')
  return { one, two }
}

t.test('one scrape of two processes has the sum of counts and levels, and the maximum where that is set', async (t) => {
  const { one, two } = await snapshotsOfTwoProcesses()
  const both = await new MergedMetrics().text([one, two])
  t.match(both, /x_sent_total\{part="transport"\} 30/)
  t.match(both, /x_closes_total\{reason="idle",part="transport"\} 1/)
  t.match(both, /x_closes_total\{reason="bye",part="transport"\} 2/)
  t.match(both, /x_sessions\{part="transport"\} 3/)
  t.match(both, /x_lag\{part="transport"\} 2/)
})

t.test('counts of processes that ended stay in the sum, and their levels leave it', async (t) => {
  const { one, two } = await snapshotsOfTwoProcesses()
  const merged = new MergedMetrics()
  merged.addEnded(two)
  merged.addEnded(two)
  const after = await merged.text([one])
  t.match(after, /x_sent_total\{part="transport"\} 50/)
  t.match(after, /x_sessions\{part="transport"\} 1/)
})

function coreMetrics() {
  const metrics = new CoreMetrics()
  const registry = emptyMetrics('core')
  registerCoreMetrics(metrics, () => true, registry)
  const sim = new SimBroker()
  const events = new CountedEvents(metrics, sim.brokerFor('core'), 4, 'run')
  return { metrics, registry, sim, events }
}

t.test('the first final event of a target is counted, and a second one is not', async (t) => {
  const { registry, sim, events } = coreMetrics()
  const final = { atMs: 0, project: 'p', application: 'a', device: 'd', reason: '' }
  await sim.clock.advanceUntil(events.final(1n, { ...final, kind: 'delivered' }))
  await sim.clock.advanceUntil(events.final(1n, { ...final, kind: 'expired' }))
  const text = await registry.metrics()
  t.match(text, /borealis_core_ended_total\{kind="delivered",part="core"\} 1/)
  t.notMatch(text, /kind="expired"/)
})

t.test('a queued target is counted by its reason', async (t) => {
  const { registry, sim, events } = coreMetrics()
  await sim.clock.advanceUntil(events.trace(2n, { step: 'queued', atMs: 0, reason: 'not_connected' }))
  await sim.clock.advanceUntil(events.trace(2n, { step: 'late_ack', atMs: 0, reason: 'expired' }))
  t.match(await registry.metrics(), /borealis_core_queued_total\{reason="not_connected",part="core"\} 1/)
})

t.test('a message that accept fails to store is counted as internal', async (t) => {
  const { metrics, registry } = coreMetrics()
  const accept = countedAccept(() => Promise.reject(new Error('no')), metrics)
  await t.rejects(accept({ targets: [] } as unknown as Parameters<typeof accept>[0]), { message: 'no' })
  t.match(await registry.metrics(), /borealis_core_messages_total\{outcome="internal",part="core"\} 1/)
})

t.test('a step whose lag cannot be read shows its messages in flight without a lag', async (t) => {
  const { metrics, registry } = coreMetrics()
  metrics.steps.add({ name: 'route.0', inflight: () => 3, lag: async () => 7 })
  metrics.steps.add({ name: 'route.1', inflight: () => 1, lag: () => Promise.reject(new Error('NATS is away')) })
  const text = await registry.metrics()
  t.match(text, /borealis_core_inflight\{step="route.1",part="core"\} 1/)
  t.match(text, /borealis_core_lag\{step="route.0",part="core"\} 7/)
  t.notMatch(text, /borealis_core_lag\{step="route.1"/)
})

t.test('the lag of the event loop shows while it lasts, and its maximum until it is taken', async (t) => {
  let nowMs = 0
  let due: (() => void) | null = null
  const lag = new LoopLag({
    now: () => nowMs,
    steadyMs: () => nowMs,
    after: (_ms, fn) => {
      due = fn
      return () => {
        due = null
      }
    },
  })
  t.equal(lag.now(), 0, 'not started')
  lag.start()
  nowMs = 250
  ;(due as (() => void) | null)?.()
  t.equal(lag.now(), 0)
  nowMs = 1_000
  t.equal(lag.now(), 500, 'the timer is 500 ms overdue')
  ;(due as (() => void) | null)?.()
  nowMs = 1_250
  ;(due as (() => void) | null)?.()
  t.equal(lag.now(), 0)
  t.equal(lag.takeWorst(), 500)
  t.equal(lag.takeWorst(), 0)
  lag.stop()
  nowMs = 9_000
  t.equal(lag.now(), 0)
  t.equal(due, null)
})
