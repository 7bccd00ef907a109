/** One message from the body of a request to its answer: for single messages and for each of a batch. */
import type { IncomingHttpHeaders } from 'node:http'
import { CodedError } from '../../../../protocol/errors.js'
import { fingerprintOf } from '../../domain/fingerprint.js'
import { resolveTargets } from '../../domain/resolve-targets.js'
import { validateMessage } from '../../domain/validate-message.js'
import type { ApiContext } from './context.js'

export interface Taken {
  /** False: it was only checked. */
  isStored: boolean
  /** As it is answered. */
  answer: object
}

/** Throws CodedError; then nothing was promised. */
export async function sendOne(
  context: ApiContext,
  project: string,
  body: unknown,
  idempotencyKey?: string,
): Promise<Taken> {
  const send = validateMessage(body, context.limits, context.clock.now())
  const { command, rejected } = await resolveTargets(context, project, send)
  const told = {
    type: send.type,
    target: send.type === 'devices' ? send.targets : send.targets[0],
    ...(rejected.length > 0 && { rejected }),
    ...(send.warnings.length > 0 && { warnings: send.warnings }),
  }
  if (send.validateOnly) return { isStored: false, answer: { status: 'valid', ...told } }
  const key = idempotencyKey
  const keyed = key === undefined ? command : { ...command, idempotency: { key, fingerprint: fingerprintOf(send) } }
  const accepted = await context.accept(keyed)
  const { type, target, ...notes } = told
  const answer = {
    id: accepted.id.toString(),
    status: accepted.notBeforeMs === null ? 'accepted' : 'scheduled',
    type,
    target,
    acceptedAt: new Date(accepted.acceptedAtMs).toISOString(),
    ...(accepted.notBeforeMs !== null && { notBefore: new Date(accepted.notBeforeMs).toISOString() }),
    expiredAt: new Date(accepted.expiresAtMs).toISOString(),
    ...notes,
  }
  return { isStored: true, answer }
}

/** Before it is validated: a message counts as often as it names targets. */
export function costOf(body: unknown): number {
  const target = (body as { target?: unknown } | null)?.target
  return Array.isArray(target) ? Math.max(1, target.length) : 1
}

const KEY = /^[\x21-\x7e]{1,255}$/

/** The header `Idempotency-Key`, or undefined. Throws CodedError `invalid_request`. */
export function idempotencyKeyOf(headers: IncomingHttpHeaders): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined || (typeof key === 'string' && KEY.test(key))) return key
  throw new CodedError('invalid_request', 'Idempotency-Key has 1 to 255 visible ASCII characters', {
    header: 'idempotency-key',
  })
}
