/**
 * What may be done to projects, by whom: every action asks the actor's role, and every change stands in AUDIT before it
 * is made. `borealis admin` and the admin API come through here; admin.ts is what they do once they may.
 */
import { CodedError } from '../../../protocol/errors.js'
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { type Broker, BrokerError } from '../../nats/broker.js'
import { AuditLog, type AuditPage } from '../../store/audit.js'
import {
  type ApplicationRecord,
  type FleetRecord,
  PROJECT_ID,
  type ProjectLimits,
  type ProjectRecord,
  RecordTable,
  type ServiceKey,
} from '../../store/tenants.js'
import { CREDENTIAL_ID, type CredentialRecord, type NewCredential, newCredential } from './auth/credentials.js'
import { type Action, type Actor, mayDo, requireMay } from './auth/roles.js'
import { type PrivateServiceKey, serviceKeyOf } from './auth/service-keys.js'
import * as admin from './projects.js'

/** Entries of one page of AUDIT. */
export const AUDIT_PAGE_MAX = 200

export class Administration {
  readonly tenants: admin.Tenants
  readonly credentials: RecordTable<CredentialRecord>
  private readonly audit: AuditLog

  constructor(
    broker: Broker,
    private readonly clock: Clock,
  ) {
    this.tenants = admin.openTenants(broker, clock)
    this.credentials = new RecordTable(broker.table(Bucket.CREDENTIALS), 'credential')
    this.audit = new AuditLog(broker)
  }

  /** Throws CodedError `forbidden` where the actor may not see it, `unknown_project` where there can be none. */
  look(actor: Actor, action: Action, project: string): void {
    requireMay(actor, action, project)
    if (!PROJECT_ID.test(project)) throw new CodedError('unknown_project')
  }

  // ---- projects -------------------------------------------------------------------------------

  /** Only those that the actor may see. */
  async projects(actor: Actor): Promise<ProjectRecord[]> {
    const all = await this.tenants.projects.all()
    return all.filter(({ id }) => mayDo(actor, 'project.show', id))
  }

  async project(actor: Actor, id: string): Promise<ProjectRecord> {
    requireMay(actor, 'project.show', id)
    return admin.getProject(this.tenants, id)
  }

  createProject(
    actor: Actor,
    options: { id?: string; name?: string; alg?: ServiceKey['alg'] },
  ): Promise<{ project: ProjectRecord; serviceKey: PrivateServiceKey }> {
    // Made here, so that the entry of AUDIT is about a project also where the id is a random one.
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

  setLimits(actor: Actor, id: string, limits: ProjectLimits): Promise<ProjectRecord> {
    return this.change(actor, 'project.limit', id, { ...limits }, () => admin.setLimits(this.tenants, id, limits))
  }

  addKey(
    actor: Actor,
    id: string,
    alg?: ServiceKey['alg'],
  ): Promise<{ project: ProjectRecord; serviceKey: PrivateServiceKey }> {
    return this.change(actor, 'key.add', id, { alg }, async () => {
      const serviceKey = await admin.addServiceKey(this.tenants, id, alg)
      return { project: await admin.getProject(this.tenants, id), serviceKey }
    })
  }

  /** The public part of a pair that its owner made: the private part never comes here. */
  async addPublicKey(actor: Actor, id: string, pem: string): Promise<{ project: ProjectRecord; key: ServiceKey }> {
    requireMay(actor, 'key.add', id)
    const key = serviceKeyOf(pem, this.clock.now())
    const { alg, kid: keyId } = key
    return this.change(actor, 'key.add', id, { alg, keyId }, async () => ({
      project: await admin.storeServiceKey(this.tenants, id, key),
      key,
    }))
  }

  removeKey(actor: Actor, id: string, keyId: string): Promise<ProjectRecord> {
    return this.change(actor, 'key.remove', id, { keyId }, () => admin.removeServiceKey(this.tenants, id, keyId))
  }

  /** Any other change that is an action of its own: what `make` does is done by its caller's means. */
  change<T>(
    actor: Actor,
    action: Action,
    project: string | null,
    details: Record<string, unknown>,
    make: () => Promise<T>,
  ): Promise<T> {
    requireMay(actor, action, project)
    if (project !== null && !PROJECT_ID.test(project)) {
      throw new CodedError('invalid_request', 'a project id has 1 to 64 of A-Z a-z 0-9 _ -', { field: 'id' })
    }
    return this.recorded({ actor: actor.name, action, project, details: known(details) }, make)
  }

  // ---- applications, fleets, devices ----------------------------------------------------------

  /** Only those that the actor may see. */
  async applications(actor: Actor): Promise<ApplicationRecord[]> {
    const all = await this.tenants.applications.all()
    return all.filter(({ project }) => mayDo(actor, 'application.list', project))
  }

  createApplication(actor: Actor, project: string, options: { name?: string }): Promise<ApplicationRecord> {
    return this.change(actor, 'application.create', project, options, () =>
      admin.createApplication(this.tenants, project, options),
    )
  }

  async fleets(actor: Actor): Promise<FleetRecord[]> {
    requireMay(actor, 'fleet.list', null)
    return this.tenants.fleets.all()
  }

  createFleet(actor: Actor, options: { name?: string }): Promise<{ fleet: FleetRecord; enrolmentKey: string }> {
    return this.change(actor, 'fleet.create', null, options, () => admin.createFleet(this.tenants, options))
  }

  revokeDevice(actor: Actor, device: string): Promise<void> {
    return this.change(actor, 'device.revoke', null, { device }, () => admin.revokeDevice(this.tenants, device))
  }

  // ---- credentials and AUDIT ------------------------------------------------------------------

  async allCredentials(actor: Actor): Promise<CredentialRecord[]> {
    requireMay(actor, 'credential.list', null)
    return this.credentials.all()
  }

  /** The secret is in the answer and nowhere else. */
  async createCredential(
    actor: Actor,
    wanted: NewCredential,
  ): Promise<{ credential: CredentialRecord; secret: string }> {
    requireMay(actor, 'credential.create', null)
    const { record, secret } = newCredential({ ...wanted, name: admin.checkName(wanted.name) }, this.clock.now())
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
    requireMay(actor, 'audit.show', project ?? null)
    const page = { limit: Math.min(limit, AUDIT_PAGE_MAX), ...(before === undefined ? {} : { before }) }
    return this.audit.page(project === undefined ? page : { ...page, project })
  }

  private async recorded<T>(
    entry: { actor: string; action: Action; project: string | null; details: Record<string, unknown> },
    make: () => Promise<T>,
  ): Promise<T> {
    await this.audit.append({ atMs: this.clock.now(), ...entry })
    try {
      return await make()
    } catch (error) {
      const failed =
        error instanceof CodedError ? error.code : error instanceof BrokerError ? 'unavailable' : 'internal'
      await this.audit.append({ atMs: this.clock.now(), ...entry, failed })
      throw error
    }
  }
}

/** Without what was not said. */
function known(details: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined))
}
