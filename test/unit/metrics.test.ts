import { Counter } from 'prom-client'
import t from 'tap'
import { createMetrics, serveMetrics } from '../../src/observe/metrics.js'

t.test('metrics are served in the text format, and only there', async (t) => {
  const registry = createMetrics('core')
  new Counter({ name: 'borealis_things_total', help: 'Things', registers: [registry] }).inc(3)
  const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 })
  t.teardown(() => server.stop())
  const answer = await fetch(`http://127.0.0.1:${server.port}/metrics`)
  t.equal(answer.status, 200)
  t.match(await answer.text(), /borealis_things_total\{part="core"\} 3/)
  t.equal((await fetch(`http://127.0.0.1:${server.port}/`)).status, 404)
  await t.rejects(serveMetrics(registry, { host: '127.0.0.1', port: server.port }), { code: 'EADDRINUSE' })
})

t.test('after stop nobody listens', async (t) => {
  const server = await serveMetrics(createMetrics('core'), { host: '127.0.0.1', port: 0 })
  await fetch(`http://127.0.0.1:${server.port}/metrics`)
  await server.stop()
  await t.rejects(fetch(`http://127.0.0.1:${server.port}/metrics`))
})
