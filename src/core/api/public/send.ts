/** One message from the body of a request to its answer: for single messages and for each of a batch. */
import type { IncomingHttpHeaders } from 'node:http'
import { CodedError } from '../../../../protocol/errors.js'
import { digestOf } from '../../../store/idempotency.js'
import { resolveTargets } from '../../domain/resolve-targets.js'
import { type SendMessage, validateMessage } from '../../domain/validate-message.js'
import type { Face } from './context.js'

export interface Taken {
  /** False: it was only checked. */
  isStored: boolean
  /** As it is answered. */
  answer: object
}

/** Throws CodedError; then nothing was promised. */
export async function sendOne(face: Face, project: string, body: unknown, idempotencyKey?: string): Promise<Taken> {
  const send = validateMessage(body, face.limits, face.clock.now())
  const { command, rejected } = await resolveTargets(face, project, send)
  const told = {
    type: send.type,
    target: send.type === 'devices' ? send.targets : send.targets[0],
    ...(rejected.length > 0 && { rejected }),
    ...(send.warnings.length > 0 && { warnings: send.warnings }),
  }
  if (send.validateOnly) return { isStored: false, answer: { status: 'valid', ...told } }
  const key = idempotencyKey
  const keyed = key === undefined ? command : { ...command, idempotency: { key, fingerprint: fingerprintOf(send) } }
  const accepted = await face.accept(keyed)
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

/** Of the message as it was asked for: which of its targets are still good may differ between two tries. */
export function fingerprintOf(send: SendMessage): string {
  const { type, ttlMs, notBeforeMs, priority, collapseKey, title, message, data, targets } = send
  return digestOf([type, String(ttlMs), String(notBeforeMs), priority, collapseKey, title, message, data, ...targets])
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
