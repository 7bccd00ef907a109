/**
 * Which keyring the installation has, in the table STORE. The first core writes the record. A process with another
 * keyring, or one without the keys that sign now, refuses to start: others would refuse what it signs.
 */
import { Bucket } from '../../protocol/subjects.js'
import {
  KEY_KINDS,
  type KeyKind,
  type Keyring,
  KeyringError,
  type KeyringMark,
  type TransportKeys,
} from '../keyring.js'
import { type Broker, isConflict } from '../nats/broker.js'
import { hasStoreTable } from './format.js'

export interface KeyringRecord extends KeyringMark {
  v: 1
  /** The kid of the active key of each kind; `secrets` is absent in a keyring of release 0.1. */
  active: Partial<Record<KeyKind, string>>
  changedAtMs: number
}

export interface KeyringEntry {
  record: KeyringRecord
  /** For the compare-and-set of the next change. */
  tableRevision: number
}

const KEY = 'keyring'

export function keyringRecordOf(keyring: Keyring, changedAtMs: number): KeyringRecord {
  const active = KEY_KINDS.filter((kind) => keyring.hasActive(kind)).map((kind) => [kind, keyring.activeKid(kind)])
  return { v: 1, ...keyring.mark, active: Object.fromEntries(active) as KeyringRecord['active'], changedAtMs }
}

/** Null before the first core has started. Rejects with BrokerError. */
export async function readKeyringRecord(broker: Broker): Promise<KeyringEntry | null> {
  if (!(await hasStoreTable(broker))) return null
  const entry = await broker.table(Bucket.STORE).get(KEY, { authoritative: true })
  if (!entry || entry.deleted) return null
  const record = JSON.parse(Buffer.from(entry.value).toString('utf8')) as KeyringRecord
  if (record.v !== 1) throw new Error(`keyring record: version ${String(record.v)} is unknown`)
  return { record, tableRevision: entry.revision }
}

/** Rejects as Table.put does: `wrong_last_sequence` if another change was faster. Without a revision it replaces any record. */
export async function writeKeyringRecord(
  broker: Broker,
  record: KeyringRecord,
  expectedTableRevision?: number,
): Promise<void> {
  await broker.table(Bucket.STORE).put(KEY, Buffer.from(JSON.stringify(record)), expectedTableRevision)
}

/**
 * For a core: checks its keyring against the record, and writes the record if there is none. Rejects with KeyringError
 * `keyring_mismatch` or `keyring_outdated`, or with BrokerError.
 */
export async function claimKeyring(broker: Broker, keyring: Keyring, file: string, nowMs: number): Promise<void> {
  if (await checkKeyring(broker, keyring, file)) return
  try {
    await writeKeyringRecord(broker, keyringRecordOf(keyring, nowMs), 0)
  } catch (error) {
    if (!isConflict(error)) throw error
    // Another core was faster.
    await checkKeyring(broker, keyring, file)
  }
}

/** Resolves with false if there is no record yet. Rejects as claimKeyring() does. */
export async function checkKeyring(broker: Broker, keyring: Keyring, file: string): Promise<boolean> {
  const found = await readKeyringRecord(broker)
  if (!found) return false
  requireSameKeyring(found.record, keyring.mark, file)
  if (keyring.mark.revision > found.record.revision) return true
  for (const [kind, kid] of Object.entries(found.record.active) as [KeyKind, string][]) {
    if (!keyring.has(kind, kid)) throw outdated(found.record, keyring.mark, file, `${kind} key ${kid}`)
  }
  return true
}

/** For a transport. Resolves with false if there is nothing to compare: no record, or an extract of release 0.1. */
export async function checkTransportKeys(broker: Broker, keys: TransportKeys, file: string): Promise<boolean> {
  const found = await readKeyringRecord(broker)
  if (!found || !keys.keyring) return false
  requireSameKeyring(found.record, keys.keyring, file)
  if (keys.keyring.revision > found.record.revision) return true
  const { ticket, deviceToken } = found.record.active
  const missing = [
    ...(keys.tickets.some(({ kid }) => kid === ticket) ? [] : [`ticket key ${ticket}`]),
    ...(keys.deviceTokens.some(({ kid }) => kid === deviceToken) ? [] : [`deviceToken key ${deviceToken}`]),
  ]
  if (missing[0] !== undefined) throw outdated(found.record, keys.keyring, file, missing[0])
  return true
}

/** Throws KeyringError `keyring_mismatch`. */
export function requireSameKeyring(expected: KeyringMark, found: KeyringMark, file: string): void {
  if (found.id === expected.id) return
  throw new KeyringError(
    'keyring_mismatch',
    `this installation has keyring ${expected.id}, and ${file} has keyring ${found.id}: copy the file of a core that ` +
      'runs, or of a backup, there. Only if that keyring is lost, `borealis keyring adopt` takes this one in its place',
  )
}

function outdated(expected: KeyringMark, found: KeyringMark, file: string, lacks: string): KeyringError {
  return new KeyringError(
    'keyring_outdated',
    `${file} has revision ${found.revision} of the keyring and lacks the ${lacks}, which signs since revision ` +
      `${expected.revision} at the latest: copy the newest file there`,
  )
}
