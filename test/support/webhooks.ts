/** Settings of webhooks with short intervals, which may send to this machine. */
import { Value } from 'typebox/value'
import { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'

export const quickWebhooks: WebhookSettings = {
  ...(Value.Default(WebhookSettings, {}) as WebhookSettings),
  allowHttp: true,
  allowedNetworks: '127.0.0.0/8',
  timeoutMs: 2_000,
  backoffMs: 20,
  backoffMaxMs: 200,
}
