/** Restores a backup into a store without data, while no core and no transport runs. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeQueueRecord, encodeStoredMessage } from '../../../protocol/envelope.js'
import { messageSubject, messagesStream } from '../../../protocol/subjects.js'
import type { Broker, LogRecord } from '../../nats/broker.js'
import { deleteStream, listStreams, restoreStream } from '../../nats/server/snapshot.js'
import { ensureStreams } from '../../nats/server/streams.js'
import type { StoreSettings } from '../../nats/settings.js'
import { readStoreFormat, STORE_FORMAT, writeStoreFormat } from '../../store/format.js'
import { keyringRecordOf, writeKeyringRecord } from '../../store/keyring-record.js'
import { SplitLog } from '../../store/split.js'
import { readKeyring } from '../keyring-file.js'
import { endMissingTargets } from './ends.js'
import {
  BackupError,
  checkFile,
  chunksOf,
  copyOrder,
  LEASE_STREAMS,
  type Manifest,
  readManifest,
  STORE_STREAM,
  type StreamBackup,
} from './manifest.js'
import type { TailRecord } from './take.js'

export interface RestoreOptions {
  broker: Broker
  folder: string
  store: StoreSettings
  version: string
  /** Null: the keyring is not restored. */
  keyringFile: string | null
  /** True: deletes the present data of the store. */
  replace: boolean
  signal: AbortSignal
  say(text: string): void
}

export interface Restored {
  streams: number
  records: number
  /** Number of records that were written while the backup was taken. */
  tailRecords: number
  /** Number of targets that were accepted while the backup was taken and are missing in it. They end as `failed`. */
  failed: number
  keyring: 'written' | 'present' | 'not in the backup' | 'left'
}

/** Time in which a running process renews a lease: a core renews its leases every second, a worker every three. */
const LEASES_WATCHED_MS = 5_000

/** Rejects with BackupError or BrokerError. All checks precede the first change of the store. */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { broker, folder, store, version, say } = options
  const manifest = readManifest(folder)
  checkManifest(manifest, store)
  say(`checking the files of the backup of ${manifest.beganAt}, made by Borealis ${manifest.borealis}`)
  for (const { snapshot, tail } of manifest.streams)
    for (const file of [snapshot, tail]) if (file) checkFile(folder, file)
  if (manifest.keyring) checkFile(folder, manifest.keyring)
  const keyring = planKeyring(manifest, options)
  const present = await refuseUnlessFree(options)

  const before = await readStoreFormat(broker)
  const restores = Math.max(before?.restores ?? 0, manifest.store.restores) + 1
  await ensureStreams(broker.bus, store)
  const format = { format: STORE_FORMAT, writtenBy: version, restores, restoring: true }
  // From here on no core and no transport starts until the restore is complete.
  await writeStoreFormat(broker, format)
  for (const name of new Set([...present, ...copyOrder(store.split), ...LEASE_STREAMS])) {
    if (name !== STORE_STREAM) await deleteStream(broker.bus, name)
  }
  const restoredAtMs = Date.now()
  const ends = new Map<string, number>()
  for (const [index, stream] of manifest.streams.entries()) {
    stopIfAsked(options)
    ends.set(stream.name, await restoreOne(stream, restoredAtMs, options))
    say(`${index + 1} of ${manifest.streams.length}: ${stream.name}, ${stream.records} records`)
  }
  await ensureStreams(broker.bus, store)
  stopIfAsked(options)
  let tailRecords = 0
  for (const stream of manifest.streams) tailRecords += await appendTail(stream, ends.get(stream.name) ?? 0, options)
  const failed = await endMissingTargets(broker, store.split, manifest.eventsBefore)
  if (keyring === 'written') writeKeyring(options, manifest)
  await recordKeyring(manifest, keyring, options)
  await writeStoreFormat(broker, { ...format, restoring: false })
  const records = manifest.streams.reduce((sum, stream) => sum + stream.records, 0)
  return { streams: manifest.streams.length, records, tailRecords, failed, keyring }
}

function checkManifest({ store, borealis }: Manifest, { split }: StoreSettings): void {
  if (store.format !== STORE_FORMAT) {
    throw new BackupError(
      `the backup has a store of format ${store.format}, made by Borealis ${borealis}; this version works with ` +
        `format ${STORE_FORMAT}: restore it with that version, then upgrade`,
    )
  }
  if (store.split !== split) {
    throw new BackupError(`the backup is from a store with store.split ${store.split}: set store.split to this value`)
  }
}

function stopIfAsked({ signal, folder }: RestoreOptions): void {
  if (!signal.aborted) return
  throw new BackupError(
    `stopped half way. No core and no transport starts on this store: run \`borealis restore ${folder} --replace\``,
  )
}

/** Resolves with the names of the present streams of Borealis. Rejects with BackupError if a process runs or data exists. */
async function refuseUnlessFree({ broker, store, replace, say }: RestoreOptions): Promise<string[]> {
  const leases = async () => {
    const streams = (await listStreams(broker.bus)).filter(({ config }) => LEASE_STREAMS.includes(config.name))
    return streams.map(({ config, state }) => `${config.name} ${state.last_seq}`).join()
  }
  say('checking whether a core or a transport runs')
  const seen = await leases()
  await sleep(LEASES_WATCHED_MS)
  if ((await leases()) !== seen) {
    throw new BackupError('a core or a transport runs on this store: stop all of them, then restore')
  }
  const ours = new Set(copyOrder(store.split))
  const streams = (await listStreams(broker.bus)).filter(({ config }) => ours.has(config.name))
  const filled = streams.filter(({ state }) => state.messages > 0)
  if (filled.length > 0 && !replace) {
    const names = filled.slice(0, 5).map(({ config, state }) => `${config.name} (${state.messages} records)`)
    const more = filled.length > 5 ? ` and ${filled.length - 5} more` : ''
    throw new BackupError(
      `the store has data: ${names.join(', ')}${more}. A restore deletes all of it; if you want that, add --replace`,
    )
  }
  return streams.map(({ config }) => config.name)
}

async function restoreOne(stream: StreamBackup, restoredAtMs: number, options: RestoreOptions): Promise<number> {
  const chunks = chunksOf(join(options.folder, stream.snapshot.file))
  const state = await restoreStream(options.broker.bus, stream.config, chunks, restoredAtMs)
  if (state.last_seq < stream.lastSequence) {
    throw new BackupError(
      `${stream.name} was restored only up to record ${state.last_seq} of ${stream.lastSequence}: the snapshot is incomplete`,
    )
  }
  return state.last_seq
}

/** Appends the records of the tail that are missing in the snapshot. Resolves with their number. */
async function appendTail(stream: StreamBackup, last: number, { broker, folder, store }: RestoreOptions) {
  if (stream.tail === null || stream.tail.records === 0) return 0
  const log = broker.log(stream.name)
  const messages = new SplitLog(broker, messagesStream, store.split)
  const lines = readFileSync(join(folder, stream.tail.file), 'utf8').split('\n').filter(Boolean)
  const missing = lines.map((line) => JSON.parse(line) as TailRecord).filter(({ sequence }) => sequence > last)
  for (const { subject, headers, body } of missing) {
    const bytes = Buffer.from(body, 'base64')
    // A queue links its records by sequence, and an append assigns new sequences. So the router enqueues these again.
    if (stream.name.startsWith('QUEUE_')) await reroute(messages, bytes)
    else await log.append(subject, bytes, headers ? { headers } : {})
  }
  return missing.length
}

async function reroute(messages: SplitLog, body: LogRecord['body']): Promise<void> {
  const { message } = decodeQueueRecord(body)
  const { device, id } = message
  await messages.ofDevice(device).append(messageSubject(device, id), encodeStoredMessage(message), {
    messageId: id.toString(),
  })
}

/** Throws BackupError if the keyring of this machine does not fit, and KeyringError if it cannot be read. */
function planKeyring(manifest: Manifest, { folder, keyringFile }: RestoreOptions): Restored['keyring'] {
  if (keyringFile === null) return manifest.keyring === null ? 'not in the backup' : 'left'
  if (manifest.keyring === null) return 'not in the backup'
  if (!existsSync(keyringFile)) return 'written'
  const copy = join(folder, manifest.keyring.file)
  const [present, stored] = [readKeyring(keyringFile).mark, readKeyring(copy).mark]
  // A later state of the keyring has every key that it needs to read the store.
  if (present.id === stored.id && present.revision >= stored.revision) return 'present'
  const difference =
    present.id === stored.id
      ? `has revision ${present.revision} of the keyring, and the backup has revision ${stored.revision}`
      : `is another keyring (${present.id}) than that of the backup (${stored.id})`
  throw new BackupError(
    `${keyringFile} ${difference} (${copy}): decide which one is right, put it in place, and add --without-keyring`,
  )
}

function writeKeyring({ folder, keyringFile }: RestoreOptions, manifest: Manifest): void {
  if (keyringFile === null || manifest.keyring === null) return
  mkdirSync(dirname(keyringFile), { recursive: true })
  writeFileSync(keyringFile, readFileSync(join(folder, manifest.keyring.file)), { mode: 0o600, flag: 'wx' })
}

/** The installation has the keyring of the backup, in the state in which it is on this machine. */
async function recordKeyring(
  manifest: Manifest,
  restored: Restored['keyring'],
  options: RestoreOptions,
): Promise<void> {
  const { broker, keyringFile } = options
  const isHere = keyringFile !== null && (restored === 'written' || restored === 'present')
  const record = isHere ? keyringRecordOf(readKeyring(keyringFile), Date.now()) : manifest.keyringRecord
  if (record) await writeKeyringRecord(broker, record)
}
