import { CoreMetrics, registerCoreMetrics } from '../core/metrics.js'
import { LoopLag, lagMetric } from '../observe/lag.js'
import { createMetrics } from '../observe/metrics.js'
import type { MetricsRegistry } from '../observe/registry.js'
import { registerWorkerMetrics, WorkerMetrics } from '../transport/metrics.js'
import { InstanceMetrics } from '../transport/supervisor/instance-metrics.js'

/** One metric as the registry has it. */
export interface MetricEntry {
  name: string
  help: string
  type: string
  labels: readonly string[]
}

const still = { now: () => 0, after: () => () => {} }

/** What a scrape of that part has, in its order. */
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

/** docs/operate/metrics.md, made from the registries; a test compares the two. */
export function metricsReference(): string {
  const parts = (['transport', 'core'] as const).map((part) => `## ${part}\n\n${table(metricsOf(part))}`)
  return `${[intro, ...parts, outro].join('\n\n')}\n`
}

const intro = `# Metrics

Made by \`borealis config metrics\` from the registries: do not edit by hand.

Prometheus text format at \`GET /metrics\` of \`metrics.host\`:\`metrics.port\` (off by default), one port for each process that an
operator starts. The same port answers \`GET /healthz\` (the process answers) and \`GET /readyz\` (new work is welcome, 503 where it is
not: a load balancer asks here, and a drain begins by turning it false).

A transport is one scrape for all its workers: counts add up, levels too, the lag is that of the worst. What a worker counted stays in
the sums when it is replaced; of one that was killed, what it counted since the last scrape is lost. Every series has the label
\`part\`.`

const outro = `## What to watch

| sign | what it means |
| --- | --- |
| \`borealis_transport_ready\` 0 | nobody can connect: it drains, or no worker listens |
| \`borealis_transport_refusals_total\` by \`reason\` | \`crowd\`, \`rate\`, \`lag\`: a storm, which the gates spread out; \`draining\`: devices that come while the instance or a worker leaves; \`full\`, \`address\`: a limit that is too low; \`distrusted\`: a load balancer that is missing in \`transport.proxyProtocolFrom\`, or somebody who tries |
| \`borealis_transport_closes_total{reason="too_slow"}\` | devices that do not read; they come back and catch up |
| \`borealis_process_event_loop_lag_seconds\` above 0.5 | a worker takes no new connections |
| \`borealis_transport_nats_connected\` or \`leases_held\` below the workers | NATS is away or slow: messages are queued |
| \`borealis_core_lag{step="route.*"}\` growing | accepted faster than routed |
| \`borealis_core_queued_total\` by \`reason\` | \`not_connected\` is daily life; \`silent\` are devices that do not acknowledge |
| \`borealis_core_messages_total{outcome="unavailable"}\`, \`storage_full\` | senders are refused |`

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
