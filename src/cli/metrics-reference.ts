/** Generates docs/operate/metrics.md from the registries of metrics. A test compares the two. */
import { CoreMetrics, registerCoreMetrics } from '../core/metrics.js'
import { LoopLag, lagMetric } from '../observe/lag.js'
import { createMetrics } from '../observe/metrics.js'
import type { MetricsRegistry } from '../observe/registry.js'
import { registerWorkerMetrics, WorkerMetrics } from '../transport/metrics.js'
import { InstanceMetrics } from '../transport/supervisor/instance-metrics.js'

/** One metric of a registry. */
export interface MetricEntry {
  name: string
  help: string
  type: string
  labels: readonly string[]
}

const still = { now: () => 0, steadyMs: () => 0, after: () => () => {} }

/** The metrics of a scrape of that part, in its order. */
export function metricsOf(part: 'core' | 'transport'): MetricEntry[] {
  const registry = createMetrics(part)
  lagMetric(new LoopLag(still), registry)
  if (part === 'core') {
    registerCoreMetrics(new CoreMetrics(), () => true, registry)
    return entriesOf(registry)
  }
  const levels = { connections: 0, sessions: 0, inFlight: 0, unsettled: 0, natsConnected: true, leaseHeld: true }
  registerWorkerMetrics(new WorkerMetrics(), () => levels, registry)
  const instance = new InstanceMetrics()
  instance.watch({ isReady: true, crashes: 0, children: () => [] })
  return [...entriesOf(registry), ...entriesOf(instance.own)]
}

/** Makes docs/operate/metrics.md from the registries. A test compares the two. */
export function metricsReference(): string {
  const parts = (['transport', 'core'] as const).map((part) => `## ${part}\n\n${table(metricsOf(part))}`)
  return `${[intro, watch, ...parts].join('\n\n')}\n`
}

const intro = `# Metrics

Made by \`borealis config metrics\` from the registries of the parts: do not edit by hand.

Each core and each transport instance serves metrics in the Prometheus text format, if \`metrics.port\` is set (on
\`metrics.host\`, by default loopback). Parts on one machine need different ports. There is no authentication.

| path | answer |
| --- | --- |
| \`/metrics\` | all metrics of the part, each with the label \`part\` |
| \`/healthz\` | 200 while the process answers |
| \`/readyz\` | 200 while the part takes new work, else 503. Load balancers ask here; a drain begins with 503. A core adds how full each [stream](room.md) is |

One scrape of a transport covers all of its workers: counters and gauges are sums, and the event loop lag is that of the
worst worker. When a worker is replaced, its counts stay in the sums. When a worker is killed, the counts since the last
scrape are lost.

[deploy/grafana-dashboard.json](../../deploy/grafana-dashboard.json) shows the metrics in Grafana.`

const watch = `## What to watch

| sign | meaning |
| --- | --- |
| \`borealis_transport_ready\` is 0 | no device can connect: the instance drains, or no worker listens |
| \`borealis_transport_worker_crashes_total\` grows | workers end by themselves; the log says why |
| \`borealis_transport_nats_connected\` or \`borealis_transport_leases_held\` is below the number of workers | NATS is away or slow, and messages wait in queues |
| \`borealis_core_nats_connected\` is 0 | the core answers 503 to every sender |
| \`borealis_core_messages_total{outcome="unavailable"}\` or \`{outcome="storage_full"}\` grows | senders are refused: NATS is away, or a stream is full ([room](room.md)) |
| \`borealis_core_stream_fill_ratio\` beyond 0.9, \`borealis_core_stream_full_in_days\` below 7 | a stream fills: raise its limit in time ([room](room.md)) |
| \`borealis_core_lag{step="route.*"}\` grows | more is accepted than routed |
| \`borealis_core_queued_total\` by \`reason\` | \`not_connected\` is daily life; many \`silent\` are devices that do not acknowledge. [All reasons](../send/statuses.md#reasons-in-a-trace) |
| \`borealis_core_webhook_given_up_total\` grows | an app server was away for days, and its events are gone |
| \`borealis_process_event_loop_lag_seconds\` is above 0.5 | the process is overloaded; a worker takes no new connections then |
| \`borealis_transport_closes_total{reason="too_slow"}\` grows | devices do not read. They come back and catch up |
| \`borealis_transport_refusals_total\` grows | by \`reason\`, see the next table |

| \`reason\` of a refused connection | meaning |
| --- | --- |
| \`crowd\`, \`rate\`, \`lag\` | more devices come at once than the worker can serve. Each is told when to come back |
| \`draining\` | the instance or the worker leaves |
| \`full\` | the worker has as many connections as it may: 90% of its file descriptors, or \`transport.connectionsMax\` |
| \`address\` | one address has \`transport.connectionsPerAddressMax\` connections. Behind a load balancer all devices have one address, unless \`transport.proxyProtocolFrom\` names it |
| \`distrusted\` | a PROXY header from an address that \`transport.proxyProtocolFrom\` does not name: a load balancer that is missing there, or an attack |`

function entriesOf(registry: MetricsRegistry): MetricEntry[] {
  return registry.getMetricsAsArray().map((metric) => {
    const { name, help, type, labelNames } = metric as unknown as MetricEntry & { labelNames?: string[] }
    return { name, help, type: String(type), labels: labelNames ?? [] }
  })
}

function table(entries: readonly MetricEntry[]): string {
  const rows = entries.map(({ name, type, labels, help }) => {
    const shown = labels.map((label) => `\`${label}\``).join(', ')
    return `| \`${name}\` | ${type} | ${shown} | ${help} |`
  })
  return ['| metric | type | labels | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n')
}
