/**
 * Credentials of the admin API: bearer secrets, each with a role for some projects or for all. Only their hashes are stored.
 *
 * A secret is `bak_<id of the credential without prefix>_<43 characters>`. It contains the key of its record, so no list is
 * searched. Each request reads the record from the table, so a removed credential is refused at once.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import type { RecordTable } from '../../../store/tenants.js'
import type { NewCredential } from '../fields.js'
import { randomId, randomSecret } from '../ids.js'
import type { Actor, Role } from './roles.js'

export interface CredentialRecord {
  v: 1
  id: string
  name: string
  role: Role
  projects: '*' | string[]
  /** SHA-256 of the secret, hex. The secret has 256 random bits, so it needs no slow hash. */
  hash: string
  createdAtMs: number
}

export const CREDENTIAL_ID = /^cred_[a-z0-9]{12}$/
const SECRET = /^bak_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$/
const SECRET_BYTES = 32

export function newCredential(
  { name, role, projects }: NewCredential,
  nowMs: number,
): { record: CredentialRecord; secret: string } {
  const id = randomId('', 12)
  const secret = `bak_${id}_${randomSecret(SECRET_BYTES)}`
  const record: CredentialRecord = {
    v: 1,
    id: `cred_${id}`,
    name,
    role,
    projects: projects ?? '*',
    hash: hashOf(secret).toString('hex'),
    createdAtMs: nowMs,
  }
  return { record, secret }
}

/** Returns the actor of a secret. Rejects with CodedError `bad_token`, or with BrokerError. */
export async function findActor(credentials: RecordTable<CredentialRecord>, secret: string): Promise<Actor> {
  const id = SECRET.exec(secret)?.[1]
  const record = id === undefined ? null : await credentials.get(`cred_${id}`, { authoritative: true })
  if (!record || !timingSafeEqual(Buffer.from(record.hash, 'hex'), hashOf(secret))) throw new CodedError('bad_token')
  return { name: record.id, role: record.role, projects: record.projects }
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}
