import { Registry } from 'prom-client'

/**
 * Metrics in the Prometheus text format, on a port of their own: for operators, never for app servers or devices. Parts
 * register their metrics with `registers: [registry]`. Names start with `borealis_` and end in their unit.
 */
export type MetricsRegistry = Registry

/** An empty registry, labelled with its process. For simulations, and as the base of createMetrics(). */
export function emptyMetrics(part = 'test'): MetricsRegistry {
  const registry = new Registry()
  registry.setDefaultLabels({ part })
  return registry
}
