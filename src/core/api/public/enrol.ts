/** POST /device/v1/enrol: a device becomes a member of a fleet. */
import Type, { type Static } from 'typebox'
import { enrol } from '../../tenants/auth/enrolment.js'
import { route } from '../route.js'
import { type ApiRoute, anybody, type Call } from './context.js'
import { DateTime } from './schemas.js'

const DAY_MS = 24 * 3_600_000

const Enrolment = Type.Object(
  {
    enrolmentKey: Type.String({ maxLength: 128 }),
    name: Type.Optional(Type.String({ maxLength: 128, description: 'A name that the device gives itself.' })),
  },
  { $id: 'Enrolment' },
)

const EnrolledDevice = Type.Object(
  {
    deviceId: Type.String(),
    token: Type.String({ description: 'Shown once, and kept nowhere.' }),
    expiresAt: DateTime,
    transportUrl: Type.String({ description: 'The address that the device connects to.' }),
  },
  { $id: 'EnrolledDevice' },
)

export const enrolRoutes: readonly ApiRoute[] = [
  route({
    method: 'POST',
    url: '/device/v1/enrol',
    before: anybody,
    reads: 'small',
    handler: enrolDevice,
    operation: {
      id: 'enrolDevice',
      summary: 'A device becomes a member of a fleet',
      tag: 'devices',
      body: Enrolment,
      answers: { 201: { description: 'The identity with which the device connects.', body: EnrolledDevice } },
      errors: ['bad_enrolment_key'],
    },
  }),
]

async function enrolDevice({ context, reply, body }: Call & { body: Static<typeof Enrolment> }): Promise<object> {
  const { auth, keyring, clock, directory } = context
  const enrolment = {
    keyring,
    issuer: auth.issuer,
    lifetimeMs: auth.deviceTokenDays * DAY_MS,
    nowMs: clock.now(),
    fleet: (id: string) => directory.fleet(id),
  }
  const { deviceId, token, expiresAtMs } = await enrol(enrolment, body.enrolmentKey)
  reply.code(201).header('cache-control', 'no-store')
  return { deviceId, token, expiresAt: new Date(expiresAtMs).toISOString(), transportUrl: auth.transportUrl }
}
