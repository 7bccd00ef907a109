/** The manifest of a backup, `manifest.json`. It is written last, so a folder without it is not a complete backup. */
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import {
  AUDIT_STREAM,
  BROADCAST_STREAM,
  Bucket,
  DEAD_LETTERS_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  messagesStream,
  OUTCOME_EVENTS_STREAM,
  queueStream,
  RECEIPTS_STREAM,
  REGISTRATIONS_STREAM,
  SCHEDULE_STREAM,
} from '../../../protocol/subjects.js'
import { CHUNK_BYTES, type StreamDescription } from '../../nats/server/snapshot.js'
import type { KeyringRecord } from '../../store/keyring-record.js'

/** Its message says what the operator can do. */
export class BackupError extends Error {
  override readonly name = 'BackupError'
}

export const MANIFEST_FORMAT = 1
export const MANIFEST_FILE = 'manifest.json'
/** In a folder of its own, so that operators can store it apart from the rest. */
export const KEYRING_FILE = join('keys', 'keyring.json')

export interface StoredFile {
  file: string
  bytes: number
  sha256: string
}

export interface StreamBackup {
  name: string
  config: StreamDescription['config']
  /** Number of records and last sequence at the begin of the snapshot. */
  records: number
  lastSequence: number
  snapshot: StoredFile
  /** Records written while the snapshot was taken, which it may miss. */
  tail: (StoredFile & { records: number }) | null
}

export interface Manifest {
  format: number
  borealis: string
  beganAt: string
  endedAt: string
  store: { format: number; split: number; restores: number }
  /** In the order in which they were copied. */
  streams: StreamBackup[]
  /** For each EVENTS stream, its last sequence when the backup began. */
  eventsBefore: Record<string, number>
  keyring: StoredFile | null
  /** The keyring of the installation. Null: the store had none. Absent: the backup is older than this field. */
  keyringRecord?: KeyringRecord | null
}

/** The leases of running processes have no meaning in a restored store, and the restore writes the table STORE itself. */
const NOT_COPIED = new Set<string>([Bucket.CORES, Bucket.WORKERS, Bucket.STORE])

const bucketStream = (name: string) => `KV_${name}`
export const LEASE_STREAMS = [Bucket.CORES, Bucket.WORKERS].map(bucketStream)
export const STORE_STREAM = bucketStream(Bucket.STORE)

/**
 * The streams of a backup in the order in which they are copied. Each step of the delivery writes to the next stream
 * before it removes a record from the one before. So a record that moves while the backup is taken is in a stream that
 * is copied later: a message that was accepted before the backup began is in MESSAGES or QUEUE, or has its end in EVENTS.
 */
export function copyOrder(split: number): string[] {
  const family = (nameOf: (index: number) => string) => Array.from({ length: split }, (_, index) => nameOf(index))
  const buckets = Object.values(Bucket).filter((name) => !NOT_COPIED.has(name))
  // Positions in EVENTS are copied before EVENTS: a position beyond the end of a restored stream would skip new events.
  const positions: string[] = [Bucket.COUNTERS, Bucket.FEED_STATE]
  return [
    ...positions.map(bucketStream),
    OUTCOME_EVENTS_STREAM,
    INGRESS_STREAM,
    SCHEDULE_STREAM,
    BROADCAST_STREAM,
    ...family(messagesStream),
    ...family(queueStream),
    EXPIRY_STREAM,
    ...family(eventsStream),
    RECEIPTS_STREAM,
    REGISTRATIONS_STREAM,
    DEAD_LETTERS_STREAM,
    AUDIT_STREAM,
    ...buckets.filter((name) => !positions.includes(name)).map(bucketStream),
  ]
}

export function readManifest(folder: string): Manifest {
  let text: string
  try {
    text = readFileSync(join(folder, MANIFEST_FILE), 'utf8')
  } catch (error) {
    throw new BackupError(`${folder} is not a complete backup: it has no ${MANIFEST_FILE}`, { cause: error })
  }
  let manifest: Manifest
  try {
    manifest = JSON.parse(text) as Manifest
  } catch (error) {
    throw new BackupError(`${join(folder, MANIFEST_FILE)} is damaged`, { cause: error })
  }
  if (manifest.format !== MANIFEST_FORMAT) {
    throw new BackupError(
      `${folder} is a backup of format ${manifest.format}, made by Borealis ${manifest.borealis}; this version reads ` +
        `format ${MANIFEST_FORMAT}`,
    )
  }
  return manifest
}

/** Reads a file in chunks. */
export function* chunksOf(path: string): Generator<Uint8Array> {
  const fd = openSync(path, 'r')
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
      const length = readSync(fd, chunk)
      if (length === 0) return
      yield chunk.subarray(0, length)
    }
  } finally {
    closeSync(fd)
  }
}

/** Throws BackupError if the file differs from its entry in the manifest. */
export function checkFile(folder: string, { file, bytes, sha256 }: StoredFile): void {
  const hash = createHash('sha256')
  let length = 0
  try {
    for (const chunk of chunksOf(join(folder, file))) {
      hash.update(chunk)
      length += chunk.length
    }
  } catch (error) {
    throw new BackupError(`${join(folder, file)} cannot be read`, { cause: error })
  }
  if (length !== bytes || hash.digest('hex') !== sha256) {
    throw new BackupError(`${join(folder, file)} is damaged: its checksum differs from the one in ${MANIFEST_FILE}`)
  }
}
