/** Messages over HTTP: send, look at, cancel. */
import { CodedError } from '../../../protocol/errors.js'
import { parseMessageId } from '../../../protocol/message-id.js'
import { Scope } from '../tenants/tokens.js'
import { readJson } from './body.js'
import { type AuthenticatedCall, authenticate, paramOf, requireActive } from './face.js'
import { flow } from './flow.js'
import type { Accepted, MessageStatus } from './ports.js'
import { type Resolved, resolveTargets } from './resolve.js'
import { type SendMessage, validateMessage } from './validate.js'

interface ValidatedCall extends AuthenticatedCall {
  send: SendMessage
}

interface ResolvedCall extends ValidatedCall {
  resolved: Resolved
}

interface StoredCall extends ResolvedCall {
  accepted: Accepted
}

/** POST .../messages: 202 once every target is stored, and never before. */
export const sendMessage = flow(
  authenticate(Scope.MESSAGE_UPDATE),
  requireActive,
  readJson,
  validate,
  resolve,
  store,
  answerAccepted,
)

/** GET .../messages/{id} */
export const showMessage = flow(authenticate(Scope.MESSAGE_UPDATE), findMessage, answerStatus)

/** DELETE .../messages/{id}: what is not decided yet is cancelled. */
export const cancelMessage = flow(authenticate(Scope.MESSAGE_UPDATE), cancel)

function validate(call: AuthenticatedCall & { body: unknown }): ValidatedCall {
  return { ...call, send: validateMessage(call.body, call.face.limits) }
}

async function resolve(call: ValidatedCall): Promise<ResolvedCall> {
  return { ...call, resolved: await resolveTargets(call.face, call.project.id, call.send) }
}

async function store(call: ResolvedCall): Promise<StoredCall> {
  return { ...call, accepted: await call.face.accept(call.resolved.command) }
}

function answerAccepted({ send, resolved, accepted, reply }: StoredCall): object {
  const { rejected } = resolved
  reply.code(202)
  return {
    id: accepted.id.toString(),
    status: 'accepted',
    type: send.type,
    target: send.type === 'devices' ? send.targets : send.targets[0],
    acceptedAt: new Date(accepted.acceptedAtMs).toISOString(),
    expiredAt: new Date(accepted.expiresAtMs).toISOString(),
    ...(rejected.length > 0 ? { rejected } : {}),
    ...(send.warnings.length > 0 ? { warnings: send.warnings } : {}),
  }
}

async function findMessage(call: AuthenticatedCall): Promise<MessageStatus> {
  const id = messageIdOf(call)
  const status = await call.face.readStatus(id)
  // Another project's message is as unknown as one that never was.
  if (status?.project !== call.project.id) throw new CodedError('unknown_message')
  return status
}

function answerStatus(status: MessageStatus): object {
  return {
    id: status.id.toString(),
    status: status.status,
    type: status.type,
    target: status.target,
    acceptedAt: new Date(status.acceptedAtMs).toISOString(),
    expiredAt: new Date(status.expiresAtMs).toISOString(),
    counts: status.counts,
    trace: status.trace.map(({ atMs, ...entry }) => ({ at: new Date(atMs).toISOString(), ...entry })),
  }
}

async function cancel(call: AuthenticatedCall): Promise<object> {
  const id = messageIdOf(call)
  const outcome = await call.face.cancel(call.project.id, id)
  if (outcome === 'unknown') throw new CodedError('unknown_message')
  if (outcome === 'already_final') throw new CodedError('already_final')
  return { id: id.toString(), status: outcome }
}

function messageIdOf(call: AuthenticatedCall): bigint {
  const id = parseMessageId(paramOf(call, 'message'))
  if (id === null) throw new CodedError('unknown_message')
  return id
}
