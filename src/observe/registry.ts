import { Registry } from 'prom-client'

/**
 * Metrics in the Prometheus text format, on a port of their own: they are for operators, never for app servers or
 * devices. A part makes its counters with `registers: [registry]`; names start with `borealis_` and end in their unit.
 */
export type MetricsRegistry = Registry

/** An empty registry, labelled with the process it belongs to. For simulations, and as the base of createMetrics. */
export function emptyMetrics(part = 'test'): MetricsRegistry {
  const registry = new Registry()
  registry.setDefaultLabels({ part })
  return registry
}
