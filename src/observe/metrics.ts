import { Registry } from 'prom-client'
import Type, { type Static } from 'typebox'
import { type AnswerServer, healthAnswer, serveAnswers } from './answer.js'
import { processMetrics } from './plain-metrics.js'
import { emptyMetrics, type MetricsRegistry } from './registry.js'

export const MetricsSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address of the metrics listener.' }),
    port: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 65535,
      description:
        'Port of the metrics listener (GET /metrics, /healthz, /readyz); a transport has one for all its workers. 0: none.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The listener for Prometheus.' },
)
export type MetricsSettings = Static<typeof MetricsSettings>

/** Makes a registry that has the metrics of the process itself (memory, CPU). */
export function createMetrics(part: string): MetricsRegistry {
  const registry = emptyMetrics(part)
  processMetrics(registry)
  return registry
}

/**
 * Serves `GET /metrics`, `/healthz` and `/readyz`. Rejects with the error of the listener if the port is in use.
 * @param isReady the answer of `/readyz`.
 * @param details more fields for the body of `/readyz`.
 */
export function serveMetrics(
  source: { metrics(): Promise<string> },
  settings: { host: string; port: number },
  isReady: () => boolean,
  details?: () => object,
): Promise<AnswerServer> {
  return serveAnswers(settings, async ({ method, url }) => {
    if (method !== 'GET') return null
    if (url !== '/metrics') return healthAnswer(url, isReady, details)
    return { status: 200, body: await source.metrics(), contentType: Registry.PROMETHEUS_CONTENT_TYPE }
  })
}
