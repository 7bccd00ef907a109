/**
 * Credentials of the admin API: bearer secrets, each with a role for some projects or for all. Only a hash is kept.
 *
 * A secret is `bak_<id of the credential without prefix>_<43 characters>`: it names its record, so that nothing has to
 * be searched; and it is read from the table each time, so that a removed one is refused at once.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import { PROJECT_ID, type RecordTable } from '../../../store/tenants.js'
import { randomId, randomSecret } from '../ids.js'
import { type Actor, ROLES, type Role } from './roles.js'

export interface CredentialRecord {
  v: 1
  id: string
  name: string
  role: Role
  projects: '*' | string[]
  /** SHA-256 of the secret, hex: it has 256 random bits, and needs no slow hash. */
  hash: string
  createdAtMs: number
}

export const CREDENTIAL_ID = /^cred_[a-z0-9]{12}$/
const SECRET = /^bak_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$/
const SECRET_BYTES = 32
const PROJECTS_MAX = 100

export interface NewCredential {
  name: string
  role: string
  /** Absent: the whole service. */
  projects?: readonly string[] | undefined
}

/** Throws CodedError `invalid_request`. */
export function newCredential(
  { name, role, projects }: NewCredential,
  nowMs: number,
): { record: CredentialRecord; secret: string } {
  const known = ROLES.find((one) => one === role)
  if (!known) throw new CodedError('invalid_request', `role must be one of ${ROLES.join(', ')}`, { field: 'role' })
  if (
    projects &&
    (projects.length === 0 || projects.length > PROJECTS_MAX || !projects.every((p) => PROJECT_ID.test(p)))
  ) {
    throw new CodedError('invalid_request', `projects must be 1 to ${PROJECTS_MAX} project ids`, { field: 'projects' })
  }
  const id = randomId('', 12)
  const secret = `bak_${id}_${randomSecret(SECRET_BYTES)}`
  const record: CredentialRecord = {
    ...{ v: 1, id: `cred_${id}`, name, role: known },
    projects: projects ? [...projects] : '*',
    hash: hashOf(secret).toString('hex'),
    createdAtMs: nowMs,
  }
  return { record, secret }
}

/** Throws CodedError `bad_token`; rejects with BrokerError where the table is away. */
export async function actorOf(credentials: RecordTable<CredentialRecord>, secret: string): Promise<Actor> {
  const id = SECRET.exec(secret)?.[1]
  const record = id === undefined ? null : await credentials.get(`cred_${id}`, { authoritative: true })
  if (!record || !timingSafeEqual(Buffer.from(record.hash, 'hex'), hashOf(secret))) throw new CodedError('bad_token')
  return { name: record.id, role: record.role, projects: record.projects }
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}
