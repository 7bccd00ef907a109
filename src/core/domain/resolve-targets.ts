/** Resolves the targets that a sender names into registrations and groups, for HTTP and NATS ingress. */
import { CodedError, type ErrorCode } from '../../../protocol/errors.js'
import type { GroupKind } from '../../../protocol/subjects.js'
import type { MacKeys } from '../../keyring.js'
import type { ApplicationRecord } from '../../store/tenants.js'
import type { AcceptCommand, AcceptTarget } from './commands.js'
import type { SendMessage } from './message.js'
import { decodeRegistrationId } from './registration-id.js'

/** The part of the directory that resolving needs. */
export interface TargetDirectory {
  /** Rejects with BrokerError. */
  application(id: string): Promise<ApplicationRecord | null>
  isDeviceRevoked(device: string): boolean
  isRegistrationRevoked(device: string, registration: number): boolean
}

export interface ResolveContext {
  directory: TargetDirectory
  registrationKeys: MacKeys
}

/** A target of a `devices` message that does not get the message, with the reason. The other targets get it. */
export interface RejectedTarget {
  target: string
  code: ErrorCode
}

export interface Resolved {
  command: AcceptCommand
  rejected: RejectedTarget[]
}

/**
 * A `devices` message goes to its valid targets. If no target is valid, this rejects with CodedError `unknown_registration`,
 * `foreign_registration`, `revoked_registration` or `unknown_application`.
 */
export async function resolveTargets(context: ResolveContext, project: string, send: SendMessage): Promise<Resolved> {
  const { targets, warnings: _, validateOnly: __, ...fields } = send
  const command = { ...fields, project, targets: [], group: null }
  if (send.type === 'device' || send.type === 'devices') {
    const { accepted, rejected } = resolveRegistrations(context, project, targets)
    return { command: { ...command, targets: accepted }, rejected }
  }
  return { command: { ...command, group: await resolveGroup(context, project, send) }, rejected: [] }
}

function resolveRegistrations(
  context: ResolveContext,
  project: string,
  registrationIds: string[],
): { accepted: AcceptTarget[]; rejected: RejectedTarget[] } {
  const accepted: AcceptTarget[] = []
  const rejected: RejectedTarget[] = []
  // A registration named twice is one target.
  for (const registrationId of new Set(registrationIds)) {
    const found = resolveRegistration(context, project, registrationId)
    if (typeof found === 'string') rejected.push({ target: registrationId, code: found })
    else accepted.push(found)
  }
  const first = rejected[0]
  if (accepted.length === 0 && first) {
    throw new CodedError(first.code, undefined, registrationIds.length > 1 ? { rejected } : { field: 'target' })
  }
  return { accepted, rejected }
}

/** Returns the registration of a registrationId, or the code of the reason for which nothing is sent to it. */
export function resolveRegistration(
  { directory, registrationKeys }: ResolveContext,
  project: string,
  registrationId: string,
): AcceptTarget | ErrorCode {
  const address = decodeRegistrationId(registrationKeys, registrationId)
  if (!address) return 'unknown_registration'
  if (address.project !== project) return 'foreign_registration'
  const { application, device, registration } = address
  if (directory.isDeviceRevoked(device) || directory.isRegistrationRevoked(device, registration)) {
    return 'revoked_registration'
  }
  return { application, device, registration, registrationId }
}

async function resolveGroup(
  { directory }: ResolveContext,
  project: string,
  { type, targets: [name = ''] }: SendMessage,
): Promise<{ kind: GroupKind; name: string }> {
  if (type === 'topic') return { kind: 'topic', name }
  if (type === 'user') return { kind: 'user', name }
  const application = await directory.application(name)
  // An application of another project gets the same answer as one that does not exist, to disclose nothing.
  if (application?.project !== project) throw new CodedError('unknown_application', undefined, { field: 'target' })
  return { kind: 'app', name }
}
