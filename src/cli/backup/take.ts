/** Copies the store and the keyring into a folder. The service may run meanwhile. */
import { createHash, type Hash } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventsStream } from '../../../protocol/subjects.js'
import type { Broker, LogRecord } from '../../nats/broker.js'
import { describeStream, listStreams, type StreamDescription, snapshotStream } from '../../nats/server/snapshot.js'
import { readStoreFormat, STORE_FORMAT } from '../../store/format.js'
import { readKeyringRecord } from '../../store/keyring-record.js'
import {
  BackupError,
  copyOrder,
  KEYRING_FILE,
  MANIFEST_FILE,
  MANIFEST_FORMAT,
  type Manifest,
  type StoredFile,
  type StreamBackup,
} from './manifest.js'

export interface BackupOptions {
  broker: Broker
  /** The NATS user of `broker`. */
  user: string
  folder: string
  split: number
  version: string
  /** Null: the keyring is not copied. */
  keyringFile: string | null
  signal: AbortSignal
  say(text: string): void
}

const MIB = 1024 * 1024
const PROGRESS_MS = 5_000
/** Longest wait for the records that were written before the end of a snapshot. They normally arrive within milliseconds. */
const TAIL_MS_MAX = 30_000
const TAIL_POLL_MS = 20

/** Rejects with BackupError (also after an abort) or BrokerError, and then leaves no file behind. */
export async function takeBackup(options: BackupOptions): Promise<Manifest> {
  const { broker, folder, split, version, signal, say } = options
  prepareFolder(folder)
  try {
    const beganAt = new Date().toISOString()
    const present = new Map((await listStreams(broker.bus)).map((stream) => [stream.config.name, stream]))
    const names = copyOrder(split)
    const missing = names.filter((name) => !present.has(name))
    if (missing.length === names.length) throw new BackupError('this NATS account has no store of Borealis')
    if (missing.length > 0) say(`not in this store, and so not in the backup: ${missing.join(', ')}`)
    if (present.has(eventsStream(split))) throw new BackupError('the store has more streams than store.split says')
    const events = names.filter((name) => present.has(name) && name.startsWith('EVENTS_'))
    const eventsBefore: Record<string, number> = {}
    for (const name of events) eventsBefore[name] = (await broker.log(name).state()).lastSequence
    const format = await readStoreFormat(broker)
    const keyring = options.keyringFile === null ? null : copyKeyring(options.keyringFile, folder)
    const streams: StreamBackup[] = []
    for (const [index, name] of names.entries()) {
      if (!present.has(name)) continue
      if (signal.aborted) throw new BackupError('stopped; nothing was kept')
      const stream = await copyStream(name, options)
      streams.push(stream)
      const size = (stream.snapshot.bytes / MIB).toFixed(1)
      say(`${index + 1} of ${names.length}: ${name}, ${stream.records} records, ${size} MiB`)
    }
    const manifest: Manifest = {
      format: MANIFEST_FORMAT,
      borealis: version,
      beganAt,
      endedAt: new Date().toISOString(),
      store: { format: format?.format ?? STORE_FORMAT, split, restores: format?.restores ?? 0 },
      streams,
      eventsBefore,
      keyring,
      keyringRecord: (await readKeyringRecord(broker))?.record ?? null,
    }
    const file = new HashedFile(folder, MANIFEST_FILE)
    file.write(Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`))
    file.close()
    return manifest
  } catch (error) {
    for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true })
    throw error
  }
}

function prepareFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (readdirSync(folder).length > 0) throw new BackupError(`${folder} is not empty: name a new folder`)
}

function copyKeyring(from: string, folder: string): StoredFile {
  let bytes: Buffer
  try {
    bytes = readFileSync(from)
  } catch (error) {
    throw new BackupError(
      `the keyring ${from} cannot be read: run this on the machine of a core, or with --without-keyring`,
      { cause: error },
    )
  }
  const file = new HashedFile(folder, KEYRING_FILE)
  file.write(bytes)
  return file.close()
}

async function copyStream(name: string, { broker, user, folder, signal, say }: BackupOptions): Promise<StreamBackup> {
  const { config } = (await describeStream(broker.bus, name)) as StreamDescription
  // A work queue allows no second consumer. It needs no tail, because no step moves a record within such a stream.
  const tail = config.retention === 'workqueue' ? null : await Tail.start(broker, name, folder)
  const file = new HashedFile(folder, `${name}.snapshot`)
  let saidAtMs = Date.now()
  try {
    const state = await snapshotStream(broker.bus, name, {
      user,
      // The consumers of PUSH_EVENTS have the positions of app servers. A core creates all other consumers again.
      consumers: name === 'PUSH_EVENTS',
      onChunk: (chunk) => {
        if (signal.aborted) throw new BackupError('stopped; nothing was kept')
        file.write(chunk)
        if (Date.now() - saidAtMs < PROGRESS_MS) return
        saidAtMs = Date.now()
        say(`${name}: ${(file.bytes / MIB).toFixed(0)} MiB so far`)
      },
    })
    const written = await tail?.finish()
    return {
      name,
      config,
      records: state.messages,
      lastSequence: state.last_seq,
      snapshot: file.close(),
      tail: written ?? null,
    }
  } finally {
    await tail?.stop()
    file.close()
  }
}

/** One record of a tail, a line of JSON. */
export interface TailRecord {
  sequence: number
  subject: string
  headers: Record<string, string> | null
  /** base64 */
  body: string
}

/** Copies the records that are written to a stream from now on. */
class Tail {
  #records = 0
  #last: number
  #stop: () => Promise<void> = async () => undefined

  private constructor(
    private readonly broker: Broker,
    private readonly name: string,
    private readonly file: HashedFile,
    from: number,
  ) {
    this.#last = from
  }

  static async start(broker: Broker, name: string, folder: string): Promise<Tail> {
    const log = broker.log(name)
    const { lastSequence } = await log.state()
    const tail = new Tail(broker, name, new HashedFile(folder, `${name}.tail`), lastSequence)
    const consumption = await log.tail({ fromSequence: lastSequence + 1 }, (record) => tail.#write(record))
    tail.#stop = () => consumption.stop()
    return tail
  }

  #write({ sequence, subject, headers, body }: LogRecord): void {
    const line: TailRecord = { sequence, subject, headers, body: Buffer.from(body).toString('base64') }
    this.file.write(Buffer.from(`${JSON.stringify(line)}\n`))
    this.#records++
    this.#last = sequence
  }

  /** Resolves when the tail has all records that are in the stream now. */
  async finish(): Promise<StoredFile & { records: number }> {
    const log = this.broker.log(this.name)
    const { lastSequence } = await log.state()
    for (const deadline = Date.now() + TAIL_MS_MAX; this.#last < lastSequence; await sleep(TAIL_POLL_MS)) {
      const next = await log.next('>', this.#last + 1)
      if (next === null || next.sequence > lastSequence) break
      if (Date.now() > deadline) throw new BackupError(`${this.name}: NATS does not deliver the newest records`)
    }
    await this.stop()
    return { ...this.file.close(), records: this.#records }
  }

  async stop(): Promise<void> {
    await this.#stop()
    this.file.close()
  }
}

/** Writes a file of the backup, which only its owner may read, and computes its checksum. */
class HashedFile {
  bytes = 0
  readonly #fd: number
  readonly #hash: Hash = createHash('sha256')
  #done: StoredFile | null = null

  constructor(
    folder: string,
    private readonly name: string,
  ) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    this.#fd = openSync(path, 'wx', 0o600)
  }

  write(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) at += writeSync(this.#fd, chunk, at)
    this.#hash.update(chunk)
    this.bytes += chunk.length
  }

  /** Idempotent. */
  close(): StoredFile {
    if (this.#done === null) {
      fsyncSync(this.#fd)
      closeSync(this.#fd)
      this.#done = { file: this.name, bytes: this.bytes, sha256: this.#hash.digest('hex') }
    }
    return this.#done
  }
}
