/** POST /device/v1/enrol: a device becomes a member of a fleet. POST /device/v1/renew: it gets another token. */
import Type, { type Static } from 'typebox'
import { type Enrolled, enrol, renew } from '../../tenants/auth/enrolment.js'
import { route } from '../route.js'
import { type ApiRoute, bearerOf, type Call } from './context.js'
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
    renewFrom: DateTime,
    transportUrl: Type.String({ description: 'The address that the device connects to.' }),
  },
  { $id: 'EnrolledDevice' },
)

export const enrolRoutes: readonly ApiRoute[] = [
  route({
    method: 'POST',
    url: '/device/v1/enrol',
    before: limitAddress,
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
  route({
    method: 'POST',
    url: '/device/v1/renew',
    before: limitAddress,
    handler: renewDevice,
    operation: {
      id: 'renewDevice',
      summary: 'A device gets another token for its identity',
      tag: 'devices',
      answers: {
        200: {
          description:
            'The same device with another token. The device renews at a random time between `renewFrom` and `expiresAt`.',
          body: EnrolledDevice,
        },
      },
      errors: ['missing_token', 'bad_token', 'token_expired', 'forbidden'],
    },
  }),
]

function limitAddress(call: Call): Call {
  call.context.rates.takeEnrolment(call.request.ip, call.reply)
  return call
}

async function enrolDevice({ context, reply, body }: Call & { body: Static<typeof Enrolment> }): Promise<object> {
  const { directory, rates, enrolments } = context
  const enrolment = {
    ...tokensOf(context),
    fleet: (id: string) => directory.fleet(id),
    use: (fleet: string, key: string) => enrolments.use(fleet, key),
    limit: (key: string) => rates.takeEnrolmentOf(key, reply),
  }
  const enrolled = await enrol(enrolment, body.enrolmentKey)
  reply.code(201).header('cache-control', 'no-store')
  return identityOutput(context, enrolled)
}

async function renewDevice({ context, request, reply }: Call): Promise<object> {
  const { auth, directory } = context
  const renewal = {
    ...tokensOf(context),
    graceMs: auth.deviceTokenGraceDays * DAY_MS,
    isDeviceRevoked: (device: string) => directory.isDeviceRevoked(device),
    isCutOff: (fleet: string, issuedAtMs: number) => directory.isCutOff(fleet, issuedAtMs),
  }
  const renewed = renew(renewal, bearerOf(request.headers.authorization))
  reply.header('cache-control', 'no-store')
  return identityOutput(context, renewed)
}

function tokensOf({ keyring, auth, clock }: Call['context']) {
  return { keyring, issuer: auth.issuer, lifetimeMs: auth.deviceTokenDays * DAY_MS, nowMs: clock.now() }
}

function identityOutput({ auth }: Call['context'], { deviceId, token, expiresAtMs, renewFromMs }: Enrolled): object {
  return {
    deviceId,
    token,
    expiresAt: new Date(expiresAtMs).toISOString(),
    renewFrom: new Date(renewFromMs).toISOString(),
    transportUrl: auth.transportUrl,
  }
}
