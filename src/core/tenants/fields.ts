/**
 * Schemas of the input of administration. The admin API documents and validates its requests with them, and Administration
 * validates the input of `borealis admin` with them.
 */
import Type, { type Static } from 'typebox'
import { PROJECT_ID } from '../../store/tenants.js'
import { Closed, checkerOf, Text, TextLike } from '../domain/schema.js'
import { ROLES } from './auth/roles.js'

export const ProjectId = TextLike(PROJECT_ID, '1 to 64 of A-Z a-z 0-9 _ -')

const Name = Text({ minLength: 1, maxLength: 128, description: 'A name for people.' })

export const Algorithm = Type.Enum(['RS256', 'ES256'], { $id: 'Algorithm', description: 'The algorithm of the key.' })

const NamedFields = { name: Type.Optional(Name) }

export const NewProject = Closed(
  {
    id: Type.Optional(ProjectId),
    ...NamedFields,
    alg: Type.Optional(Algorithm),
  },
  { $id: 'NewProject' },
)
export type NewProject = Static<typeof NewProject>
export const checkNewProject = checkerOf(NewProject, { whole: 'the project' })

export const NewApplication = Closed(NamedFields, { $id: 'NewApplication' })
export const NewFleet = Closed(NamedFields, { $id: 'NewFleet' })
export type Named = Static<typeof NewFleet>
export const checkNamed = checkerOf(Type.Object(NamedFields))

export const ApplicationChange = Closed(
  { needsUser: Type.Boolean({ description: 'True: the application registers with a user token only.' }) },
  { $id: 'ApplicationChange' },
)
export type ApplicationChange = Static<typeof ApplicationChange>

export const FleetProjects = Closed(
  {
    projects: Type.Union([Type.Array(ProjectId, { maxItems: 1_000 }), Type.Literal('*')], {
      description: 'The projects for whose applications devices of the fleet may register; `*`: all.',
    }),
  },
  { $id: 'FleetProjects' },
)
export type FleetProjects = Static<typeof FleetProjects>

/** Limits of a new enrolment key. */
export const NewEnrolmentKey = Closed(
  {
    uses: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'Most enrolments; absent: any number.' }),
    ),
    until: Type.Optional(
      TextLike(/^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,12}Z)?$/, 'a date or a time in UTC', {
        description:
          'The end of the key, a date or a time in UTC (2027-01-31, 2027-01-31T12:00:00Z); absent: the key has no end.',
      }),
    ),
  },
  { $id: 'NewEnrolmentKey' },
)
export type NewEnrolmentKey = Static<typeof NewEnrolmentKey>
export const checkNewEnrolmentKey = checkerOf(NewEnrolmentKey, { whole: 'the key' })

/** The field is required, so that neither an empty body nor a misspelt field removes a limit. */
export const NewLimits = Closed(
  {
    messagesPerSecond: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
      description: 'Targets accepted a second; null: the default of the service.',
    }),
  },
  { $id: 'NewLimits' },
)
export type NewLimits = Static<typeof NewLimits>
export const checkNewLimits = checkerOf(NewLimits, { whole: 'the limits' })

export const NewKey = Closed({ alg: Type.Optional(Algorithm) }, { $id: 'NewKey' })

export const NewPublicKey = Closed(
  {
    publicKey: Text({
      minLength: 1,
      maxLength: 8_192,
      description: 'PEM that begins with PUBLIC KEY: RSA of 2048 to 4096 bits (RS256), or P-256 (ES256).',
    }),
  },
  { $id: 'NewPublicKey' },
)

export const Role = Type.Enum([...ROLES], { $id: 'Role' })

export const NewCredential = Closed(
  {
    name: Name,
    role: Role,
    projects: Type.Optional(
      Type.Array(ProjectId, { minItems: 1, maxItems: 100, description: 'Absent: the whole service.' }),
    ),
  },
  { $id: 'NewCredential' },
)
export type NewCredential = Static<typeof NewCredential>
export const checkNewCredential = checkerOf(NewCredential, { whole: 'the credential' })
