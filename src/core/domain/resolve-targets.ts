/** From the targets that a sender names to what the delivery core understands. HTTP and NATS ingress both come through here. */
import { CodedError, type ErrorCode } from '../../../protocol/errors.js'
import type { GroupKind } from '../../../protocol/subjects.js'
import type { MacKey } from '../../keyring.js'
import { type ApplicationRecord, TOPIC_NAME, USER_CHARACTERS_MAX } from '../../store/tenants.js'
import type { AcceptCommand, AcceptTarget } from './commands.js'
import { decodeRegistrationId } from './registration-id.js'
import type { SendMessage } from './validate-message.js'

/** What resolving asks about tenants. */
export interface TargetDirectory {
  /** Rejects with BrokerError where the store is away. */
  application(id: string): Promise<ApplicationRecord | null>
  isDeviceRevoked(device: string): boolean
  isRegistrationRevoked(device: string, registration: number): boolean
}

export interface ResolveContext {
  directory: TargetDirectory
  registrationKeys: ReadonlyMap<string, MacKey>
}

/** A target of a `devices` message that cannot be sent to, and why; the others are sent. */
export interface RejectedTarget {
  target: string
  code: ErrorCode
}

export interface Resolved {
  command: AcceptCommand
  rejected: RejectedTarget[]
}

/**
 * Throws CodedError where nothing can be sent: `unknown_registration`, `foreign_registration`, `revoked_registration`,
 * `unknown_application`, `invalid_request`. A `devices` message goes to those of its targets that are good.
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

/** What a registrationId of a sender stands for, or why it cannot be sent to. */
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
  if (type === 'topic') {
    if (TOPIC_NAME.test(name)) return { kind: 'topic', name }
    throw new CodedError('invalid_request', 'target must be the name of a topic', { field: 'target' })
  }
  if (type === 'user') {
    if (name.length <= USER_CHARACTERS_MAX) return { kind: 'user', name }
    throw new CodedError('invalid_request', `target must have at most ${USER_CHARACTERS_MAX} characters`, {
      field: 'target',
    })
  }
  const application = await directory.application(name)
  // Another project's application is as unknown as one that never was: nothing is given away.
  if (application?.project !== project) throw new CodedError('unknown_application', undefined, { field: 'target' })
  return { kind: 'app', name }
}
