/**
 * The actions of operators on tenants, for `borealis admin` and the admin API. Administration checks the actor's permission
 * and records each change in AUDIT before it makes the change. The functions of projects.ts make the changes.
 */
import { CodedError } from '../../../protocol/errors.js'
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { KeyringError } from '../../keyring.js'
import { type Broker, BrokerError } from '../../nats/broker.js'
import { type AuditBreak, AuditLog, type AuditPage } from '../../store/audit.js'
import {
  type ApplicationRecord,
  type EnrolmentKey,
  enrolmentKeysOf,
  type FleetRecord,
  PROJECT_ID,
  type ProjectRecord,
  RecordTable,
  type ServiceKey,
} from '../../store/tenants.js'
import { CREDENTIAL_ID, type CredentialRecord, newCredential } from './auth/credentials.js'
import { type Action, type Actor, mayDo, requirePermission } from './auth/roles.js'
import { generateServiceKey, type PrivateServiceKey, readServiceKey } from './auth/service-keys.js'
import type { AuthSettings } from './auth/settings.js'
import {
  checkNamed,
  checkNewCredential,
  checkNewEnrolmentKey,
  checkNewLimits,
  checkNewProject,
  type Named,
  type NewCredential,
  type NewEnrolmentKey,
  type NewLimits,
  type NewProject,
} from './fields.js'
import * as admin from './projects.js'

/** Most entries on one page of AUDIT. */
export const AUDIT_PAGE_MAX = 200

export class Administration {
  readonly tenants: admin.Tenants
  readonly credentials: RecordTable<CredentialRecord>
  private readonly audit: AuditLog

  constructor(
    broker: Broker,
    private readonly clock: Clock,
    /** Lifetime of device tokens. A revocation ends when the device's last token has ended; absent: it never ends. */
    private readonly tokens?: Pick<AuthSettings, 'deviceTokenDays' | 'deviceTokenGraceDays'>,
  ) {
    this.tenants = admin.openTenants(broker, clock)
    this.credentials = new RecordTable(broker.table(Bucket.CREDENTIALS), 'credential')
    this.audit = new AuditLog(broker)
  }

  /** Throws CodedError `forbidden` if the actor lacks the permission, `unknown_project` if the id is malformed. */
  requireView(actor: Actor, action: Action, project: string): void {
    requirePermission(actor, action, project)
    if (!PROJECT_ID.test(project)) throw new CodedError('unknown_project')
  }

  // ---- projects -------------------------------------------------------------------------------

  /** The projects that the actor may see. */
  async projects(actor: Actor): Promise<ProjectRecord[]> {
    const all = await this.tenants.projects.all()
    return all.filter(({ id }) => mayDo(actor, 'project.show', id))
  }

  async project(actor: Actor, id: string): Promise<ProjectRecord> {
    requirePermission(actor, 'project.show', id)
    return admin.getProject(this.tenants, id)
  }

  /** The service does not store the private key of the service account: it is only in the result. */
  async createProject(
    actor: Actor,
    wanted: NewProject,
  ): Promise<{ project: ProjectRecord; serviceKey: PrivateServiceKey }> {
    const options = checkNewProject(wanted)
    // Generated before the entry in AUDIT, so that the entry has the id.
    const id = options.id ?? admin.newProjectId()
    return this.change(actor, 'project.create', id, { name: options.name }, () =>
      admin.createProject(this.tenants, { ...options, id }),
    )
  }

  setActive(actor: Actor, id: string, isActive: boolean): Promise<ProjectRecord> {
    return this.change(actor, isActive ? 'project.resume' : 'project.suspend', id, {}, () =>
      admin.setProjectActive(this.tenants, id, isActive),
    )
  }

  async setLimits(actor: Actor, id: string, wanted: NewLimits): Promise<ProjectRecord> {
    const limits = checkNewLimits(wanted)
    return this.change(actor, 'project.limit', id, { ...limits }, () => admin.setLimits(this.tenants, id, limits))
  }

  async addKey(
    actor: Actor,
    id: string,
    alg: ServiceKey['alg'] = 'RS256',
  ): Promise<{ project: ProjectRecord; serviceKey: PrivateServiceKey }> {
    requirePermission(actor, 'key.add', id)
    // Made before the change, so that the entry in AUDIT names it.
    const key = await generateServiceKey(alg, this.clock.now())
    return this.change(actor, 'key.add', id, { alg, keyId: key.stored.kid }, async () => ({
      project: await admin.storeServiceKey(this.tenants, id, key.stored),
      serviceKey: key.private,
    }))
  }

  /** Adds the public key of a pair that its owner generated. */
  async addPublicKey(actor: Actor, id: string, pem: string): Promise<{ project: ProjectRecord; key: ServiceKey }> {
    requirePermission(actor, 'key.add', id)
    const key = readServiceKey(pem, this.clock.now())
    const { alg, kid: keyId } = key
    return this.change(actor, 'key.add', id, { alg, keyId }, async () => ({
      project: await admin.storeServiceKey(this.tenants, id, key),
      key,
    }))
  }

  removeKey(actor: Actor, id: string, keyId: string): Promise<ProjectRecord> {
    return this.change(actor, 'key.remove', id, { keyId }, () => admin.removeServiceKey(this.tenants, id, keyId))
  }

  /** Checks the permission, records the action in AUDIT, and runs `make`. */
  change<T>(
    actor: Actor,
    action: Action,
    project: string | null,
    details: Record<string, unknown>,
    make: () => Promise<T>,
  ): Promise<T> {
    requirePermission(actor, action, project)
    if (project !== null && !PROJECT_ID.test(project)) throw new CodedError('unknown_project')
    return this.recorded({ actor: actor.name, action, project, details: withoutUndefined(details) }, make)
  }

  // ---- applications, fleets, devices ----------------------------------------------------------

  /** The applications that the actor may see. */
  async applications(actor: Actor): Promise<ApplicationRecord[]> {
    const all = await this.tenants.applications.all()
    return all.filter(({ project }) => mayDo(actor, 'application.list', project))
  }

  async createApplication(actor: Actor, project: string, wanted: Named): Promise<ApplicationRecord> {
    const options = checkNamed(wanted)
    return this.change(actor, 'application.create', project, options, () =>
      admin.createApplication(this.tenants, project, options),
    )
  }

  setNeedsUser(actor: Actor, project: string, application: string, needsUser: boolean): Promise<ApplicationRecord> {
    return this.change(actor, 'application.set', project, { application, needsUser }, () =>
      admin.setNeedsUser(this.tenants, project, application, needsUser),
    )
  }

  /** @param projects null: all */
  setFleetProjects(actor: Actor, fleet: string, projects: string[] | null): Promise<FleetRecord> {
    return this.change(actor, 'fleet.projects', null, { fleet, projects: projects ?? '*' }, () =>
      admin.setFleetProjects(this.tenants, fleet, projects),
    )
  }

  async fleets(actor: Actor): Promise<FleetRecord[]> {
    requirePermission(actor, 'fleet.list', null)
    return this.tenants.fleets.all()
  }

  /** The service stores only a hash of the enrolment key: the key is only in the result. */
  async createFleet(actor: Actor, wanted: Named): Promise<{ fleet: FleetRecord; enrolmentKey: string }> {
    const options = checkNamed(wanted)
    return this.change(actor, 'fleet.create', null, options, () => admin.createFleet(this.tenants, options))
  }

  async enrolmentKeys(actor: Actor, fleet: string): Promise<EnrolmentKey[]> {
    requirePermission(actor, 'fleet.keys.list', null)
    return enrolmentKeysOf(await admin.getFleet(this.tenants, fleet))
  }

  async addEnrolmentKey(
    actor: Actor,
    fleet: string,
    wanted: NewEnrolmentKey,
  ): Promise<{ key: EnrolmentKey; enrolmentKey: string }> {
    const { uses: usesMax, until } = checkNewEnrolmentKey(wanted)
    const details = { fleet, uses: usesMax, until }
    const limits: admin.EnrolmentKeyLimits = {}
    if (usesMax !== undefined) limits.usesMax = usesMax
    if (until !== undefined) limits.untilMs = Date.parse(until)
    return this.change(actor, 'fleet.keys.add', null, details, () => admin.addEnrolmentKey(this.tenants, fleet, limits))
  }

  retireEnrolmentKey(actor: Actor, fleet: string, key: string): Promise<EnrolmentKey> {
    return this.change(actor, 'fleet.keys.retire', null, { fleet, key }, () =>
      admin.retireEnrolmentKey(this.tenants, fleet, key),
    )
  }

  /** Resolves with the time of the cut-off, Unix milliseconds: older tokens of the fleet are void. */
  cutOffFleet(actor: Actor, fleet: string): Promise<number> {
    return this.change(actor, 'fleet.cutoff', null, { fleet }, () => admin.cutOffFleet(this.tenants, fleet))
  }

  revokeDevice(actor: Actor, device: string): Promise<void> {
    const { deviceTokenDays, deviceTokenGraceDays } = this.tokens ?? {}
    const tokenDays =
      deviceTokenDays === undefined || deviceTokenGraceDays === undefined
        ? undefined
        : deviceTokenDays + deviceTokenGraceDays
    return this.change(actor, 'device.revoke', null, { device }, () =>
      admin.revokeDevice(this.tenants, device, tokenDays),
    )
  }

  resetDevice(actor: Actor, device: string): Promise<void> {
    return this.change(actor, 'device.reset', null, { device }, () => admin.resetDevice(this.tenants, device))
  }

  // ---- credentials and AUDIT ------------------------------------------------------------------

  async allCredentials(actor: Actor): Promise<CredentialRecord[]> {
    requirePermission(actor, 'credential.list', null)
    return this.credentials.all()
  }

  /** The service stores only a hash of the secret: the secret is only in the result. */
  async createCredential(
    actor: Actor,
    wanted: NewCredential,
  ): Promise<{ credential: CredentialRecord; secret: string }> {
    requirePermission(actor, 'credential.create', null)
    const { record, secret } = newCredential(checkNewCredential(wanted), this.clock.now())
    const { id, name, role, projects } = record
    return this.change(actor, 'credential.create', null, { id, name, role, projects }, async () => {
      if (!(await this.credentials.create(record))) throw new CodedError('internal', `credential id ${id} was taken`)
      return { credential: record, secret }
    })
  }

  removeCredential(actor: Actor, id: string): Promise<void> {
    return this.change(actor, 'credential.remove', null, { id }, async () => {
      const isThere = CREDENTIAL_ID.test(id) && (await this.credentials.get(id)) !== null
      if (!isThere) throw new CodedError('not_found', 'there is no such credential')
      await this.credentials.table.delete(id)
    })
  }

  async auditPage(
    actor: Actor,
    { project, before, limit }: { project?: string; before?: number; limit: number },
  ): Promise<AuditPage> {
    requirePermission(actor, 'audit.show', project ?? null)
    const page = { limit: Math.min(limit, AUDIT_PAGE_MAX), ...(before === undefined ? {} : { before }) }
    return this.audit.page(project === undefined ? page : { ...page, project })
  }

  /** Reads the whole audit log and compares each entry with the one before it. */
  async verifyAudit(actor: Actor): Promise<{ entries: number; breaks: AuditBreak[] }> {
    requirePermission(actor, 'audit.show', null)
    return this.audit.verify()
  }

  private async recorded<T>(
    entry: { actor: string; action: Action; project: string | null; details: Record<string, unknown> },
    make: () => Promise<T>,
  ): Promise<T> {
    await this.audit.append({ atMs: this.clock.now(), ...entry })
    try {
      return await make()
    } catch (error) {
      await this.audit.append({ atMs: this.clock.now(), ...entry, failed: codeOf(error) })
      throw error
    }
  }
}

function codeOf(error: unknown): string {
  if (error instanceof CodedError || error instanceof KeyringError) return error.code
  return error instanceof BrokerError ? 'unavailable' : 'internal'
}

function withoutUndefined(details: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined))
}
