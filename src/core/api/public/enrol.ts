/** POST /device/v1/enrol: a device becomes one of a fleet. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import { enrol } from '../../tenants/auth/enrolment.js'
import { readJson } from '../body.js'
import { flow } from '../flow.js'
import type { ApiRoute, Call } from './context.js'

interface EnrolCall extends Call {
  enrolmentKey: string
}

const enrolDevice = flow(readJson('small')<Call>, validate, answerEnrolled)

const DAY_MS = 24 * 3_600_000
const KEY_CHARACTERS_MAX = 128
const NAME_CHARACTERS_MAX = 128

export const enrolRoutes: readonly ApiRoute[] = [
  {
    method: 'POST',
    url: '/device/v1/enrol',
    handler: enrolDevice,
    operation: {
      id: 'enrolDevice',
      summary: 'A device becomes one of a fleet',
      tag: 'devices',
      body: Type.Object({
        enrolmentKey: Type.String({ maxLength: KEY_CHARACTERS_MAX }),
        name: Type.Optional(
          Type.String({ maxLength: NAME_CHARACTERS_MAX, description: "The device's own word, for the log." }),
        ),
      }),
      answers: {
        201: {
          description: 'What the device connects with. The token is shown once.',
          body: Type.Object({
            deviceId: Type.String(),
            token: Type.String(),
            expiresAt: Type.String({ format: 'date-time' }),
            transportUrl: Type.String(),
          }),
        },
      },
      errors: ['bad_enrolment_key'],
    },
  },
]

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

async function answerEnrolled({ context, reply, enrolmentKey }: EnrolCall): Promise<object> {
  const { auth, keyring, clock, directory } = context
  const enrolment = {
    keyring,
    issuer: auth.issuer,
    lifetimeMs: auth.deviceTokenDays * DAY_MS,
    nowMs: clock.now(),
    fleet: (id: string) => directory.fleet(id),
  }
  const { deviceId, token, expiresAtMs } = await enrol(enrolment, enrolmentKey)
  reply.code(201).header('cache-control', 'no-store')
  return { deviceId, token, expiresAt: new Date(expiresAtMs).toISOString(), transportUrl: auth.transportUrl }
}
