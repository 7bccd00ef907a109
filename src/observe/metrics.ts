import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { collectDefaultMetrics, Registry } from 'prom-client'
import Type, { type Static } from 'typebox'

/**
 * Metrics in the Prometheus text format, on a port of their own: they are for operators, never for app servers or
 * devices. A part makes its counters with `registers: [registry]`; names start with `borealis_` and end in their unit.
 */
export type MetricsRegistry = Registry

export const MetricsSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address that the metrics listener binds to.' }),
    port: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 65535,
      description: 'Port of the metrics listener (GET /metrics); worker n of a transport takes this plus n. 0: none.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The listener for Prometheus.' },
)
export type MetricsSettings = Static<typeof MetricsSettings>

/** An empty registry, labelled with the process it belongs to. For simulations, and as the base of createMetrics. */
export function emptyMetrics(part = 'test'): MetricsRegistry {
  const registry = new Registry()
  registry.setDefaultLabels({ part })
  return registry
}

/** A registry with the process's own figures (memory, event loop lag, descriptors). */
export function createMetrics(part: string): MetricsRegistry {
  const registry = emptyMetrics(part)
  collectDefaultMetrics({ register: registry, prefix: 'borealis_' })
  return registry
}

export interface MetricsServer {
  readonly port: number
  stop(): Promise<void>
}

/** Serves `GET /metrics`. Rejects with the listener's error where the port is taken. */
export async function serveMetrics(
  registry: MetricsRegistry,
  settings: { host: string; port: number },
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      (error: unknown) => response.writeHead(500).end(String(error)),
    )
  })
  // A scraper holds its connection open; it must not hold up the end of the process.
  server.unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(settings.port, settings.host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
