/** One message from the body of a request to its answer: for single messages and for each message of a batch. */
import type { IncomingHttpHeaders } from 'node:http'
import { fingerprintOf } from '../../domain/message.js'
import { resolveTargets } from '../../domain/resolve-targets.js'
import type { ApiContext } from './context.js'

export interface Sent {
  /** False: the message was only checked. */
  isStored: boolean
  /** The body of the answer. */
  answer: object
}

/** Throws CodedError; then nothing was promised. */
export async function sendOne(
  context: ApiContext,
  project: string,
  body: unknown,
  idempotencyKey?: string,
): Promise<Sent> {
  const send = context.messages.read(body, context.clock.now())
  const { command, rejected } = await resolveTargets(context, project, send)
  const message = { type: send.type, target: send.type === 'devices' ? send.targets : send.targets[0] }
  const notes = {
    ...(rejected.length > 0 && { rejected }),
    ...(send.warnings.length > 0 && { warnings: send.warnings }),
  }
  if (send.validateOnly) return { isStored: false, answer: { status: 'valid', ...message, ...notes } }
  const key = idempotencyKey
  const keyed = key === undefined ? command : { ...command, idempotency: { key, fingerprint: fingerprintOf(send) } }
  const accepted = await context.accept(keyed)
  const answer = {
    id: accepted.id.toString(),
    status: accepted.notBeforeMs === null ? 'accepted' : 'scheduled',
    ...message,
    acceptedAt: new Date(accepted.acceptedAtMs).toISOString(),
    ...(accepted.notBeforeMs !== null && { notBefore: new Date(accepted.notBeforeMs).toISOString() }),
    expiredAt: new Date(accepted.expiresAtMs).toISOString(),
    ...notes,
  }
  return { isStored: true, answer }
}

/** The cost of a message at the rate limit, before the message is checked: one for each target that it names. */
export function costOf(body: unknown): number {
  const target = (body as { target?: unknown } | null)?.target
  return Array.isArray(target) ? Math.max(1, target.length) : 1
}

/** The header `Idempotency-Key`, which the route checked; undefined where there is none. */
export function idempotencyKeyOf(headers: IncomingHttpHeaders): string | undefined {
  return headers['idempotency-key'] as string | undefined
}
