/** POST /device/v1/enrol: a device becomes one of a fleet. */
import { CodedError } from '../../../protocol/errors.js'
import { enrol } from '../tenants/enrolment.js'
import { readJson } from './body.js'
import type { Call } from './face.js'
import { flow } from './flow.js'

interface EnrolCall extends Call {
  enrolmentKey: string
}

export const enrolDevice = flow(readJson<Call>, validate, answerEnrolled)

const DAY_MS = 24 * 3_600_000
const KEY_CHARACTERS_MAX = 128
const NAME_CHARACTERS_MAX = 128

/** `name` is the device's own word, for the log only. */
function validate(call: Call & { body: unknown }): EnrolCall {
  const { body } = call
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new CodedError('invalid_request', 'the body must be an object', { field: '' })
  }
  const { enrolmentKey, name = '' } = body as Record<string, unknown>
  if (typeof enrolmentKey !== 'string' || enrolmentKey.length > KEY_CHARACTERS_MAX) {
    throw new CodedError('invalid_request', 'enrolmentKey must be a string', { field: 'enrolmentKey' })
  }
  if (typeof name !== 'string' || name.length > NAME_CHARACTERS_MAX) {
    throw new CodedError('invalid_request', `name must be a string of at most ${NAME_CHARACTERS_MAX} characters`, {
      field: 'name',
    })
  }
  return { ...call, enrolmentKey }
}

async function answerEnrolled({ face, reply, enrolmentKey }: EnrolCall): Promise<object> {
  const { auth, keyring, clock, directory } = face
  const context = {
    keyring,
    issuer: auth.issuer,
    lifetimeMs: auth.deviceTokenDays * DAY_MS,
    nowMs: clock.now(),
    fleet: (id: string) => directory.fleet(id),
  }
  const { deviceId, token, expiresAtMs } = await enrol(context, enrolmentKey)
  reply.code(201).header('cache-control', 'no-store')
  return { deviceId, token, expiresAt: new Date(expiresAtMs).toISOString(), transportUrl: auth.transportUrl }
}
