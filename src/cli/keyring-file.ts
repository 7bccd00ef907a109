/** The files with keys: the keyring of cores and commands, and the extract of transports. */
import {
  closeSync,
  existsSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { KeyringSettings } from '../config/keyring-settings.js'
import { Keyring, KeyringError, parseTransportKeys, type TransportKeys } from '../keyring.js'

/** Throws KeyringError. Never makes a keyring. */
export function readKeyring(path: string): Keyring {
  return Keyring.parse(readPrivate(path, 'keyring.file'), path)
}

/** The file that a transport reads. */
export const transportFileOf = ({ file, transportFile }: KeyringSettings) => transportFile || file

/** The keys of a transport, from its extract or from the keyring. Throws KeyringError. */
export function readTransportKeys({ file, transportFile }: KeyringSettings): TransportKeys {
  if (transportFile === '') return readKeyring(file).transportKeys()
  return parseTransportKeys(readPrivate(transportFile, 'keyring.transportFile'), transportFile)
}

/** Makes a keyring. Throws KeyringError `keyring_exists` if there is a file; no reader ever sees a part of one. */
export function createKeyring(path: string, nowMs: number): Keyring {
  const keyring = Keyring.generate(nowMs)
  const temporary = writeBeside(path, keyring.serialize())
  try {
    linkSync(temporary, path)
    return keyring
  } catch (cause) {
    if (codeOf(cause) !== 'EEXIST') throw unwritable(path, cause)
    throw new KeyringError('keyring_exists', `${resolve(path)} exists, and is left as it was: remove it yourself`)
  } finally {
    rmSync(temporary, { force: true })
  }
}

/** For the folder of a single owner, such as that of `npm start`: makes the keyring of a new folder. Throws KeyringError. */
export function ensureKeyring(path: string, nowMs: number): Keyring {
  return existsSync(path) ? readKeyring(path) : createKeyring(path, nowMs)
}

/** A keyring that is ready to replace the file. */
export interface PreparedKeyring {
  /** Replaces the file as a whole. */
  put(): void
  /** Leaves the file as it was. Does nothing after put(). */
  discard(): void
}

/** Writes the keyring beside the file, so that a full disk is noticed before anybody relies on the change. */
export function prepareKeyring(path: string, keyring: Keyring): PreparedKeyring {
  const temporary = writeBeside(path, keyring.serialize())
  return {
    put: () => renameSync(temporary, path),
    discard: () => rmSync(temporary, { force: true }),
  }
}

/** Writes the extract for transports. Throws KeyringError. */
export function writeTransportKeys(path: string, keyring: Keyring): void {
  renameSync(writeBeside(path, `${JSON.stringify(keyring.transportKeys(), null, 2)}\n`), path)
}

function readPrivate(path: string, setting: string): string {
  let descriptor: number
  try {
    descriptor = openSync(path, 'r')
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') throw missing(path, setting)
    throw unreadable(path, setting, cause)
  }
  try {
    const stats = fstatSync(descriptor)
    if (stats.isFile()) refuseExposed(path, stats)
    return readFileSync(descriptor, 'utf8')
  } catch (cause) {
    if (cause instanceof KeyringError) throw cause
    throw unreadable(path, setting, cause)
  } finally {
    closeSync(descriptor)
  }
}

function missing(path: string, setting: string): KeyringError {
  const place = `${setting} names ${resolve(path)}, and there is no such file`
  return new KeyringError(
    'keyring_missing',
    setting === 'keyring.file'
      ? `${place}: copy the keyring of this installation there (mode 0600), or set ${setting}. Only for a new ` +
          'installation, make one with `borealis keyring init`'
      : `${place}: make it with \`borealis keyring extract FILE\` on the machine of a core, and copy it there (mode 0600)`,
  )
}

function unreadable(path: string, setting: string, cause: unknown): KeyringError {
  return new KeyringError(
    'keyring_unreadable',
    `${setting} names ${resolve(path)}, which cannot be read (${codeOf(cause) ?? 'not a file'}): let the user of this ` +
      'process read it',
    { cause },
  )
}

const OTHERS = 0o007
const GROUP = 0o070
const GROUP_READ = 0o040

/**
 * Kubernetes (fsGroup) and systemd (LoadCredential) hand a secret out as a file of root that the group of the process may
 * read. A file of the process's own user needs no group.
 */
function refuseExposed(path: string, { mode, uid }: Stats): void {
  const ownUid = process.getuid?.()
  if (ownUid === undefined) return
  const isHandedOut = uid === 0 && ownUid !== 0 && (mode & GROUP & ~GROUP_READ) === 0
  if ((mode & OTHERS) === 0 && ((mode & GROUP) === 0 || isHandedOut)) return
  const octal = (mode & 0o777).toString(8).padStart(4, '0')
  throw new KeyringError(
    'keyring_exposed',
    `${resolve(path)} has mode ${octal}, so other users of this machine can use its keys: \`chmod 600 ${path}\` ` +
      '(in Kubernetes: defaultMode 0440 and fsGroup), and replace the keys if others have read it',
  )
}

function writeBeside(path: string, text: string): string {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    rmSync(temporary, { force: true })
    writeWhole(temporary, text, path)
    return temporary
  } catch (cause) {
    throw unwritable(path, cause)
  }
}

function writeWhole(temporary: string, text: string, path: string): void {
  const descriptor = openSync(temporary, 'wx', 0o600)
  let isWhole = false
  try {
    writeSync(descriptor, text)
    giveToOwner(path, descriptor)
    fsyncSync(descriptor)
    isWhole = true
  } finally {
    closeSync(descriptor)
    if (!isWhole) rmSync(temporary, { force: true })
  }
}

/** root keeps the owner of the file, or of its folder: the service runs as another user and has to read it. */
function giveToOwner(path: string, descriptor: number): void {
  if (process.getuid?.() !== 0) return
  const { uid, gid } = statSync(path, { throwIfNoEntry: false }) ?? statSync(dirname(path))
  fchownSync(descriptor, uid, gid)
}

function unwritable(path: string, cause: unknown): KeyringError {
  return new KeyringError('keyring_unreadable', `${resolve(path)} cannot be written (${codeOf(cause)})`, { cause })
}

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException | undefined)?.code
