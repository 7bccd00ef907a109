/**
 * Stores the state in one file: a header line, then one change a line. Each write appends to this journal. When the journal
 * has grown, a snapshot goes to a second file, which is synced and renamed over the first, so that the path always names a
 * complete state. Bytes after the last newline are an append that a crash cut off. Nothing that depends on it has happened,
 * so reading skips them. Any other line that does not decode makes the file corrupt.
 *
 * Writes that arrive during an append are joined into the next one, with one fsync for all of them.
 */
import { type FileHandle, open, readFile, rename } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { DeviceError } from '../errors.js'
import { type Change, DeviceState } from './state.js'
import { decodeChange, encodeChange } from './state-codec.js'
import { FileLock } from './state-lock.js'
import type { StateStore } from './state-store.js'

const FORMAT = 'borealis-device-state'
const VERSION = 1
const HEADER = `${JSON.stringify({ format: FORMAT, version: VERSION })}\n`

export interface FileStateSettings {
  seenMax: number
  journalBytesMax: number
  fsync: 'always' | 'never'
}

type Done = (error: Error | null) => void

export class FileStateStore implements StateStore {
  private waiting: { lines: string; done: Done }[] = []
  private journalBytes = 0
  /** True: the file does not exist yet, or a failed append left an unknown tail. So the next write is a snapshot. */
  private snapshotNext = true
  private running: Promise<void> | null = null
  private closed = false
  private handle: FileHandle | null = null

  private constructor(
    private readonly path: string,
    readonly state: DeviceState,
    private readonly lock: FileLock,
    private readonly settings: FileStateSettings,
    private readonly now: () => number,
  ) {}

  /**
   * Opens or creates the file. Rejects with DeviceError `state_corrupt` (the file has been renamed to FILE.corrupt-N),
   * `state_version`, `state_locked` or `state_unwritable`.
   */
  static async open(path: string, settings: FileStateSettings, now: () => number): Promise<FileStateStore> {
    const lock = await FileLock.take(`${path}.lock`)
    try {
      const state = await load(path, settings.seenMax)
      state.sweep(now())
      const store = new FileStateStore(path, state, lock, settings, now)
      await store.rewrite()
      return store
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  write(changes: readonly Change[], done: Done): void {
    if (this.closed) {
      done(new DeviceError('stopped'))
      return
    }
    let lines = ''
    for (const change of changes) lines += `${encodeChange(change)}\n`
    this.waiting.push({ lines, done })
    this.running ??= this.drain()
  }

  async close(): Promise<void> {
    this.closed = true
    await this.running
    await this.handle?.close()
    this.handle = null
    await this.lock.release()
  }

  private async drain(): Promise<void> {
    // Joins the writes that the current turn still adds.
    await Promise.resolve()
    while (this.waiting.length > 0) {
      const batch = this.waiting
      this.waiting = []
      let failure: Error | null = null
      try {
        await this.store(batch.map((w) => w.lines).join(''))
      } catch (cause) {
        this.snapshotNext = true
        failure = new DeviceError('state_unwritable', cause instanceof Error ? cause.message : String(cause), { cause })
      }
      for (const { done } of batch) done(failure)
    }
    this.running = null
  }

  private async store(lines: string): Promise<void> {
    if (this.snapshotNext || this.journalBytes > this.settings.journalBytesMax || !this.handle) {
      // The snapshot includes these lines: the state in memory has their changes already.
      await this.rewrite()
      return
    }
    // A turn of duplicates has no changes. It only waits for the earlier writes.
    if (lines === '') return
    const bytes = Buffer.from(lines)
    await this.handle.appendFile(bytes)
    if (this.settings.fsync === 'always') await this.handle.datasync()
    this.journalBytes += bytes.length
  }

  private async rewrite(): Promise<void> {
    this.state.sweep(this.now())
    const temporary = `${this.path}.new`
    let text = HEADER
    for (const change of this.state.snapshot()) text += `${encodeChange(change)}\n`
    const fresh = await open(temporary, 'w', 0o600)
    try {
      await fresh.writeFile(text)
      if (this.settings.fsync === 'always') await fresh.sync()
      await rename(temporary, this.path)
    } catch (error) {
      await fresh.close()
      throw error
    }
    await this.handle?.close()
    this.handle = fresh
    this.journalBytes = 0
    this.snapshotNext = false
    if (this.settings.fsync === 'always') await syncFolder(dirname(this.path))
  }
}

async function load(path: string, seenMax: number): Promise<DeviceState> {
  const state = new DeviceState(seenMax)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return state
    throw new DeviceError('state_unwritable', error instanceof Error ? error.message : String(error), { cause: error })
  }
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  lines.pop()
  try {
    checkHeader(path, lines[0])
    for (let i = 1; i < lines.length; i++) state.apply(decodeChange(lines[i] as string))
  } catch (error) {
    if (error instanceof DeviceError) throw error
    const renamed = await renameCorrupt(path)
    const reason = error instanceof Error ? error.message : String(error)
    throw new DeviceError('state_corrupt', `${path} (${reason}), now ${basename(renamed)}`, { cause: error })
  }
  return state
}

function checkHeader(path: string, line: string | undefined): void {
  const header: unknown = JSON.parse(line ?? '')
  if (typeof header !== 'object' || header === null || !('format' in header) || header.format !== FORMAT)
    throw new TypeError('no header')
  const version = 'version' in header ? header.version : undefined
  if (typeof version !== 'number') throw new TypeError('no version')
  if (version > VERSION) throw new DeviceError('state_version', `${path} has version ${version}`)
}

/** Renames the file to the first free name of FILE.corrupt-1, -2, ... and returns that name. */
async function renameCorrupt(path: string): Promise<string> {
  for (let n = 1; ; n++) {
    const renamed = `${path}.corrupt-${n}`
    try {
      // 'wx' fails if the name exists, so no earlier corrupt file is overwritten.
      await (await open(renamed, 'wx', 0o600)).close()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST' && n < 1_000) continue
      throw error
    }
    await rename(path, renamed)
    return renamed
  }
}

/** A rename is durable only when its folder is synced. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
