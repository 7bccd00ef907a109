/** The output of `borealis admin` and the admin API for stored records. It contains no secrets and no hashes. */
import type { AuditEntry } from '../../store/audit.js'
import {
  type ApplicationRecord,
  type EnrolmentKey,
  enrolmentKeysOf,
  type FleetRecord,
  type ProjectRecord,
} from '../../store/tenants.js'
import type { CredentialRecord } from './auth/credentials.js'

export type Fields = Record<string, unknown>

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

export function applicationOutput({ id, project, name, needsUser, createdAtMs }: ApplicationRecord): Fields {
  const created = timeOutput(createdAtMs)
  return { applicationId: id, projectId: project, name, needsUser: needsUser === true, createdAt: created }
}

export function fleetOutput(fleet: FleetRecord): Fields {
  const { id, name, projects, createdAtMs } = fleet
  const keyIds = enrolmentKeysOf(fleet).flatMap((key) => (key.retiredAtMs === null ? [key.id] : []))
  return { fleetId: id, name, keyIds, projects: projects ?? '*', createdAt: timeOutput(createdAtMs) }
}

export function enrolmentKeyOutput({ id, uses, usesMax, untilMs, retiredAtMs, createdAtMs }: EnrolmentKey): Fields {
  return {
    keyId: id,
    uses,
    usesMax,
    until: untilMs === null ? null : timeOutput(untilMs),
    retiredAt: retiredAtMs === null ? null : timeOutput(retiredAtMs),
    createdAt: timeOutput(createdAtMs),
  }
}

export function credentialOutput({ id, name, role, projects, createdAtMs }: CredentialRecord): Fields {
  return { credentialId: id, name, role, projects, createdAt: timeOutput(createdAtMs) }
}

export function auditOutput({ atMs, ...entry }: AuditEntry): Fields {
  return { at: timeOutput(atMs), ...entry }
}

export function timeOutput(ms: number): string {
  return new Date(ms).toISOString()
}
