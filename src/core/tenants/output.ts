/** What `borealis admin` and the admin API show of what is stored: no secret that was not just made. */
import { APP_EVENTS_STREAM, appEventsFilter, readerDurable } from '../../../protocol/subjects.js'
import type { AuditEntry } from '../../store/audit.js'
import { FINAL_KINDS } from '../../store/events.js'
import type { Webhook, WebhookState } from '../../store/feeds.js'
import type { ApplicationRecord, FleetRecord, ProjectRecord } from '../../store/tenants.js'
import type { CredentialRecord } from './auth/credentials.js'
import type { FeedView } from './feed-administration.js'

type Fields = Record<string, unknown>

export function projectOutput(project: ProjectRecord): Fields {
  return {
    projectId: project.id,
    name: project.name,
    isActive: project.isActive,
    clientId: project.serviceAccount.clientId,
    keyIds: project.serviceAccount.keys.map((key) => key.kid),
    messagesPerSecond: project.limits?.messagesPerSecond ?? null,
    createdAt: timeOutput(project.createdAtMs),
    updatedAt: timeOutput(project.updatedAtMs),
  }
}

export function applicationOutput({ id, project, name, createdAtMs }: ApplicationRecord): Fields {
  return { applicationId: id, projectId: project, name, createdAt: timeOutput(createdAtMs) }
}

export function fleetOutput({ id, name, createdAtMs }: FleetRecord): Fields {
  return { fleetId: id, name, createdAt: timeOutput(createdAtMs) }
}

export function credentialOutput({ id, name, role, projects, createdAtMs }: CredentialRecord): Fields {
  return { credentialId: id, name, role, projects, createdAt: timeOutput(createdAtMs) }
}

export function auditOutput({ atMs, ...entry }: AuditEntry): Fields {
  return { at: timeOutput(atMs), ...entry }
}

/** Without the secrets of the webhook. */
export function feedOutput({ project, feed, state, waiting }: FeedView): Fields {
  const webhook = feed?.webhook ?? null
  return {
    projectId: project,
    isOn: feed !== null,
    nats: feed && {
      ...{ subject: appEventsFilter(project), stream: APP_EVENTS_STREAM, consumer: readerDurable(project) },
      waiting: waiting.reader,
    },
    webhook: webhook && webhookOutput(webhook, state, waiting.webhook),
  }
}

function webhookOutput(webhook: Webhook, state: WebhookState | null, waiting: number | null): Fields {
  const { url, kinds, disabled, secrets, createdAtMs } = webhook
  const optional = (ms: number | null | undefined) => (ms == null ? null : timeOutput(ms))
  return {
    ...{ url, kinds: kinds ?? FINAL_KINDS, state: disabled ? 'disabled' : (state?.state ?? 'new'), waiting },
    givenUp: state?.givenUp ?? 0,
    lastSuccessAt: optional(state?.lastSuccessAtMs),
    lastFailureAt: optional(state?.lastFailureAtMs),
    lastError: state?.lastError ?? null,
    failingSince: optional(state?.failingSinceMs),
    disabledAt: optional(disabled?.atMs),
    secrets: secrets.map((one) => ({ createdAt: timeOutput(one.createdAtMs), endsAt: optional(one.endsAtMs) })),
    createdAt: timeOutput(createdAtMs),
  }
}

export function timeOutput(ms: number): string {
  return new Date(ms).toISOString()
}
