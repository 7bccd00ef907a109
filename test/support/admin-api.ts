/** Starts the admin API on a real nats-server, and makes credentials and requests for it. */
import type { Test } from 'tap'
import { Value } from 'typebox/value'
import { FailedSignIns } from '../../src/core/api/admin/failed-sign-ins.js'
import { createAdminServer } from '../../src/core/api/admin/server.js'
import type { HttpServer } from '../../src/core/api/server.js'
import type { AdminApiSettings } from '../../src/core/api/settings.js'
import { Registrations } from '../../src/core/devices/registrations.js'
import { QueryBudget } from '../../src/core/domain/query-budget.js'
import { FeedAdministration } from '../../src/core/outcomes/feed-administration.js'
import { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'
import { Administration } from '../../src/core/tenants/administration.js'
import type { Actor, Role } from '../../src/core/tenants/auth/roles.js'
import { AuditLog } from '../../src/store/audit.js'
import { startTestApi, type TestApi } from './api.js'
import type { Answer } from './http.js'

export const root: Actor = { name: 'cli:test', role: 'operator', projects: '*' }

export interface TestAdminApi {
  api: TestApi
  server: HttpServer
  administration: Administration
  /** Writes the failed sign-ins to AUDIT now. */
  stopSignIns(): Promise<void>
  /** Creates a credential of this role for these projects, or for all projects. Resolves with its secret. */
  credential(role: string, ...projects: string[]): Promise<string>
  call(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, secret: string | null, body?: unknown): Promise<Answer>
}

export async function startAdminApi(
  t: Test,
  webhooks: Partial<WebhookSettings> = {},
  { changesPerDay = 0 }: Partial<AdminApiSettings> = {},
): Promise<TestAdminApi> {
  const api = await startTestApi(t)
  const { broker, directory, registrationKeys, clock, log, auth } = api
  const administration = new Administration(broker, clock, api.auth)
  const registrations = new Registrations({
    ...{
      broker,
      directory,
      registrationKeys,
      clock,
      log,
      limits: { registrationsMax: 9, registrationsPerDay: 99, topicsMax: 9, requestsMax: 9 },
    },
  })
  const settings = { ...(Value.Default(WebhookSettings, {}) as WebhookSettings), ...webhooks }
  const feeds = new FeedAdministration({
    ...{ administration, broker, clock, split: api.nats.store.split, settings },
    secrets: () => api.keyring.secretsKeys,
  })
  const signIns = new FailedSignIns(new AuditLog(broker), clock, log)
  t.teardown(() => signIns.stop())
  const server = createAdminServer(
    {
      signIns,
      queries: new QueryBudget(api.http, clock, Math.random),
      ...{ administration, registrations, feeds, auth, clock, log, publicUrl: () => 'https://push.example.com' },
      readCounters: async () => [{ application: 'app_x', day: '2025-01-01', counts: { accepted: 1, delivered: 1 } }],
    },
    { host: '127.0.0.1', port: 0, requestsPerSecond: 20, changesPerDay },
    api.http,
  )
  t.teardown(() => server.stop())
  return {
    api,
    server,
    administration,
    stopSignIns: () => signIns.stop(),
    credential: async (role, ...projects) => {
      const wanted = { name: role, role: role as Role, ...(projects.length > 0 && { projects }) }
      return (await administration.createCredential(root, wanted)).secret
    },
    call: async (method, path, secret, body) => {
      const response = await server.app.inject({
        ...{ method, url: `/admin/v1${path}` },
        headers: {
          ...(secret === null ? {} : { authorization: `Bearer ${secret}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
      })
      return { statusCode: response.statusCode, headers: response.headers, body: JSON.parse(response.body) }
    },
  }
}
