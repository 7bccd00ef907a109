/** The answers of the admin API, as schemas. tenants/output.ts and outcomes/feed-output.ts make them. */
import Type from 'typebox'
import { FINAL_KINDS } from '../../../store/events.js'
import { MapOf } from '../../domain/schema.js'
import { Algorithm, Role } from '../../tenants/fields.js'

const Time = Type.String({ format: 'date-time' })
const OptionalTime = Type.Union([Time, Type.Null()])

const projectFields = {
  projectId: Type.String(),
  name: Type.String(),
  isActive: Type.Boolean(),
  clientId: Type.String(),
  keyIds: Type.Array(Type.String()),
  messagesPerSecond: Type.Union([Type.Integer(), Type.Null()], { description: 'null: the default of the service.' }),
  createdAt: Time,
  updatedAt: Time,
}
export const Project = Type.Object(projectFields, { $id: 'Project' })

const keyFields = {
  keyId: Type.String(),
  alg: Algorithm,
  settings: Type.Object({ push_notification_system: MapOf(Type.String()) }),
  settingsFile: Type.String({
    description: 'The settings file of the app server, YAML. The private key in it is kept nowhere.',
  }),
}
export const CreatedKey = Type.Object(keyFields, { $id: 'CreatedKey' })
export const CreatedProject = Type.Object({ ...projectFields, ...keyFields }, { $id: 'CreatedProject' })
export const AddedPublicKey = Type.Object({ keyId: Type.String(), alg: Algorithm }, { $id: 'AddedPublicKey' })

export const Application = Type.Object(
  {
    applicationId: Type.String(),
    projectId: Type.String(),
    name: Type.String(),
    needsUser: Type.Boolean({ description: 'It registers with a user token only.' }),
    createdAt: Time,
  },
  { $id: 'Application' },
)

const Secret = Type.String({ description: 'Shown once, and kept nowhere.' })

const fleetFields = {
  fleetId: Type.String(),
  name: Type.String(),
  keyIds: Type.Array(Type.String(), { description: 'Enrolment keys that are not retired.' }),
  projects: Type.Union([Type.Array(Type.String()), Type.Literal('*')], {
    description: 'The projects for whose applications its devices may register; `*`: all.',
  }),
  createdAt: Time,
}
export const Fleet = Type.Object(fleetFields, { $id: 'Fleet' })
export const CreatedFleet = Type.Object({ ...fleetFields, enrolmentKey: Secret }, { $id: 'CreatedFleet' })

const enrolmentKeyFields = {
  keyId: Type.String(),
  uses: Type.Integer({ description: 'Enrolments that were granted.' }),
  usesMax: Type.Union([Type.Integer(), Type.Null()], { description: 'null: any number.' }),
  until: Type.Union([Time, Type.Null()], { description: 'null: for ever.' }),
  retiredAt: Type.Union([Time, Type.Null()], { description: 'null: it is not retired.' }),
  createdAt: Time,
}
export const EnrolmentKey = Type.Object(enrolmentKeyFields, { $id: 'EnrolmentKey' })
export const CreatedEnrolmentKey = Type.Object(
  { ...enrolmentKeyFields, enrolmentKey: Secret },
  { $id: 'CreatedEnrolmentKey' },
)
export const EnrolmentKeyList = Type.Object({ keys: Type.Array(EnrolmentKey) }, { $id: 'EnrolmentKeyList' })
export const CutOffFleet = Type.Object({ fleetId: Type.String(), tokensFrom: Time }, { $id: 'CutOffFleet' })
export const ResetDevice = Type.Object({ deviceId: Type.String(), reset: Type.Literal(true) }, { $id: 'ResetDevice' })

export const RevokedDevice = Type.Object(
  { deviceId: Type.String(), revoked: Type.Literal(true) },
  { $id: 'RevokedDevice' },
)

const credentialFields = {
  credentialId: Type.String(),
  name: Type.String(),
  role: Role,
  projects: Type.Union([Type.Literal('*'), Type.Array(Type.String())], { description: '`*`: the whole service.' }),
  createdAt: Time,
}
export const Credential = Type.Object(credentialFields, { $id: 'Credential' })
export const CreatedCredential = Type.Object({ ...credentialFields, secret: Secret }, { $id: 'CreatedCredential' })
export const RemovedCredential = Type.Object(
  { credentialId: Type.String(), removed: Type.Literal(true) },
  { $id: 'RemovedCredential' },
)

export const AuditPage = Type.Object(
  {
    entries: Type.Array(
      Type.Object(
        {
          at: Time,
          actor: Type.String(),
          action: Type.String(),
          project: Type.Union([Type.String(), Type.Null()]),
          details: MapOf(Type.Unknown()),
          failed: Type.Optional(Type.String({ description: 'The code of the error, where the action failed.' })),
        },
        { $id: 'AuditEntry' },
      ),
    ),
    next: Type.Optional(Type.String({ description: '`before` of the next page; absent on the last page.' })),
  },
  { $id: 'AuditPage' },
)

const Backlog = Type.Union([Type.Integer(), Type.Null()], { description: 'Events that it has not taken yet.' })

const Webhook = Type.Object(
  {
    url: Type.String(),
    kinds: Type.Array(Type.Enum([...FINAL_KINDS])),
    state: Type.Enum(['new', 'ok', 'failing', 'paused', 'disabled'], {
      description: '`paused`: it failed for long, and is tried now and then. `disabled`: it answered 410.',
    }),
    waiting: Backlog,
    givenUp: Type.Integer({ description: 'Events that became too old to be sent.' }),
    lastSuccessAt: OptionalTime,
    lastFailureAt: OptionalTime,
    lastError: Type.Union([Type.String(), Type.Null()]),
    failingSince: OptionalTime,
    disabledAt: OptionalTime,
    secrets: Type.Array(Type.Object({ createdAt: Time, endsAt: OptionalTime }, { $id: 'WebhookSecret' }), {
      description: 'The ages of the secrets that sign now, newest first; never the secrets themselves.',
    }),
    createdAt: Time,
  },
  { $id: 'Webhook' },
)

const eventsFields = {
  projectId: Type.String(),
  isOn: Type.Boolean(),
  nats: Type.Union([
    Type.Object(
      { subject: Type.String(), stream: Type.String(), consumer: Type.String(), waiting: Backlog },
      { $id: 'NatsReader' },
    ),
    Type.Null(),
  ]),
  webhook: Type.Union([Webhook, Type.Null()]),
}
const WebhookKey = Type.String({
  description: 'Shown once. `whsec_` and base64 of the key, as Standard Webhooks have it.',
})
export const Events = Type.Object(eventsFields, { $id: 'Events' })
export const ChangedWebhook = Type.Object(
  { ...eventsFields, secret: Type.Optional(WebhookKey) },
  { $id: 'ChangedWebhook' },
)
export const RotatedWebhook = Type.Object({ ...eventsFields, secret: WebhookKey }, { $id: 'RotatedWebhook' })
