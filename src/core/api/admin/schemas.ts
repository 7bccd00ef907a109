/** What the admin API shows, as TypeBox: see tenants/output.ts, which makes it. */
import Type from 'typebox'
import { FINAL_KINDS } from '../../../store/events.js'
import { ROLES } from '../../tenants/auth/roles.js'

const Time = Type.String({ format: 'date-time' })

export const Project = Type.Object({
  projectId: Type.String(),
  name: Type.String(),
  isActive: Type.Boolean(),
  clientId: Type.String(),
  keyIds: Type.Array(Type.String()),
  messagesPerSecond: Type.Union([Type.Integer(), Type.Null()], { description: 'null: the default of the service.' }),
  createdAt: Time,
  updatedAt: Time,
})

export const Algorithm = Type.Enum(['RS256', 'ES256'], { description: 'What the key signs with.' })

export const PublicKey = Type.String({
  description: 'PEM that begins with PUBLIC KEY: RSA of 2048 to 4096 bits (RS256), or P-256 (ES256).',
})

export const NewKey = Type.Object({
  keyId: Type.String(),
  alg: Algorithm,
  settings: Type.Object({ push_notification_system: Type.Record(Type.String(), Type.String()) }),
  settingsFile: Type.String({
    description: 'The settings file of the app server, YAML. The private key is kept nowhere.',
  }),
})

export const Application = Type.Object({
  applicationId: Type.String(),
  projectId: Type.String(),
  name: Type.String(),
  createdAt: Time,
})

export const Fleet = Type.Object({ fleetId: Type.String(), name: Type.String(), createdAt: Time })

export const Credential = Type.Object({
  credentialId: Type.String(),
  name: Type.String(),
  role: Type.Enum([...ROLES]),
  projects: Type.Union([Type.Literal('*'), Type.Array(Type.String())]),
  createdAt: Time,
})

export const AuditPage = Type.Object({
  entries: Type.Array(
    Type.Object({
      at: Time,
      actor: Type.String(),
      action: Type.String(),
      project: Type.Union([Type.String(), Type.Null()]),
      details: Type.Record(Type.String(), Type.Unknown()),
      failed: Type.Optional(Type.String({ description: 'Code of the error, where it was not done.' })),
    }),
  ),
  next: Type.Optional(Type.String({ description: '`before` of the next page.' })),
})

const OptionalTime = Type.Union([Time, Type.Null()])
const Waiting = Type.Union([Type.Integer(), Type.Null()], { description: 'Events that it has still to take.' })

const Webhook = Type.Object({
  url: Type.String(),
  kinds: Type.Array(Type.Enum([...FINAL_KINDS])),
  state: Type.Enum(['new', 'ok', 'failing', 'paused', 'disabled'], {
    description: 'paused: it failed for long, and is tried now and then; disabled: it answered 410.',
  }),
  waiting: Waiting,
  givenUp: Type.Integer({ description: 'Events that were too old to be tried again.' }),
  lastSuccessAt: OptionalTime,
  lastFailureAt: OptionalTime,
  lastError: Type.Union([Type.String(), Type.Null()]),
  failingSince: OptionalTime,
  disabledAt: OptionalTime,
  secrets: Type.Array(Type.Object({ createdAt: Time, endsAt: OptionalTime }), {
    description: 'That sign now, newest first; never the secrets themselves.',
  }),
  createdAt: Time,
})

export const Events = Type.Object({
  projectId: Type.String(),
  isOn: Type.Boolean(),
  nats: Type.Union([
    Type.Object({ subject: Type.String(), stream: Type.String(), consumer: Type.String(), waiting: Waiting }),
    Type.Null(),
  ]),
  webhook: Type.Union([Webhook, Type.Null()]),
})

export const Named = Type.Object({ name: Type.Optional(Type.String({ maxLength: 128 })) })

export const ProjectParams = Type.Object({ project: Type.String() })
