/**
 * The keys of the service: one file, mode 0600, made at the first start. Several keys of a kind may stand side by side:
 * the newest signs, all verify, so that a rotation has no gap. A key is known by its `kid`.
 *
 * Transports get an extract of it (`transportKeys`): enough to check device tokens and to make resume tickets, nothing
 * that could sign a token for an app server or a registrationId.
 */
import { createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject, randomBytes } from 'node:crypto'
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** Keys with which tokens are signed (ES256). */
export type SigningKind = 'accessToken' | 'deviceToken'
/** Secrets for MACs (HMAC-SHA256, 32 bytes). */
export type SecretKind = 'registration' | 'ticket'
export type KeyKind = SigningKind | SecretKind

export interface StoredSigningKey {
  kid: string
  createdAtMs: number
  privateJwk: JsonWebKey
}

export interface StoredSecret {
  kid: string
  createdAtMs: number
  /** base64url, 32 bytes. */
  secret: string
}

/** The file. The newest key of a kind stands last. */
export interface KeyringFile {
  version: 1
  accessToken: StoredSigningKey[]
  deviceToken: StoredSigningKey[]
  registration: StoredSecret[]
  ticket: StoredSecret[]
}

/** A MAC key, ready to use. */
export interface MacKey {
  kid: string
  secret: Buffer
}

/** What a transport needs of the keyring; JSON, to be handed to its workers. Newest last. */
export interface TransportKeys {
  tickets: { kid: string; secret: string }[]
  deviceTokens: { kid: string; publicJwk: JsonWebKey }[]
}

const SIGNING_KINDS: readonly SigningKind[] = ['accessToken', 'deviceToken']
const SECRET_KINDS: readonly SecretKind[] = ['registration', 'ticket']
export const KEY_KINDS: readonly KeyKind[] = [...SIGNING_KINDS, ...SECRET_KINDS]

/** Length of a kid: 6 random bytes as hex. Short, because registrationIds and tickets carry one. */
const KID_BYTES = 6
const SECRET_BYTES = 32

export class KeyringError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'KeyringError'
  }
}

export class Keyring {
  private constructor(private readonly file: KeyringFile) {}

  /** One key of each kind, in memory only. */
  static generate(nowMs: number): Keyring {
    return new Keyring({
      version: 1,
      accessToken: [newSigningKey(nowMs)],
      deviceToken: [newSigningKey(nowMs)],
      registration: [newSecret(nowMs)],
      ticket: [newSecret(nowMs)],
    })
  }

  /** Reads the file; makes it where there is none. Throws KeyringError where it is unreadable or no keyring. */
  static open(path: string, nowMs: number): Keyring {
    const present = readIfPresent(path)
    if (present !== null) return Keyring.parse(present, path)
    const keyring = Keyring.generate(nowMs)
    try {
      return keyring.publish(path) ? keyring : Keyring.parse(readFileSync(path, 'utf8'), path)
    } catch (error) {
      if (error instanceof KeyringError) throw error
      throw new KeyringError(`cannot make the keyring ${path}`, { cause: error })
    }
  }

  static parse(text: string, source = 'keyring'): Keyring {
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      // The cause would quote the text, which is secret.
      throw new KeyringError(`${source} is not JSON`)
    }
    const problem = problemOf(value)
    if (problem) throw new KeyringError(`${source} is not a keyring: ${problem}`)
    return new Keyring(value as KeyringFile)
  }

  /** Adds a key, which signs from now on. Call `save` afterwards, and restart or signal whoever reads the file. */
  rotate(kind: KeyKind, nowMs: number): string {
    if (kind === 'accessToken' || kind === 'deviceToken') {
      const key = newSigningKey(nowMs)
      this.file[kind].push(key)
      return key.kid
    }
    const key = newSecret(nowMs)
    this.file[kind].push(key)
    return key.kid
  }

  /** Removes a key: what it signed is void at once. The newest of a kind stays. */
  retire(kind: KeyKind, kid: string): void {
    const keys: { kid: string }[] = this.file[kind]
    const index = keys.findIndex((k) => k.kid === kid)
    if (index < 0) throw new KeyringError(`no ${kind} key ${kid}`)
    if (index === keys.length - 1) throw new KeyringError(`${kind} key ${kid} is the one that signs: rotate first`)
    keys.splice(index, 1)
  }

  /** Replaces the file as a whole, never leaving half of one. */
  save(path: string): void {
    renameSync(this.writeBeside(path), path)
  }

  kids(kind: KeyKind): { kid: string; createdAtMs: number }[] {
    return this.file[kind].map(({ kid, createdAtMs }) => ({ kid, createdAtMs }))
  }

  /** The private key that signs now. */
  signingKey(kind: SigningKind): StoredSigningKey {
    return newest(this.file[kind])
  }

  /** Public keys of a kind, all of which verify. */
  publicKeys(kind: SigningKind): { kid: string; publicJwk: JsonWebKey }[] {
    return this.file[kind].map(({ kid, privateJwk }) => ({ kid, publicJwk: publicPart(privateJwk) }))
  }

  /** The secret that signs now. */
  macKey(kind: SecretKind): MacKey {
    return toMacKey(newest(this.file[kind]))
  }

  /** Secrets of a kind, all of which verify. */
  macKeys(kind: SecretKind): MacKey[] {
    return this.file[kind].map(toMacKey)
  }

  transportKeys(): TransportKeys {
    return {
      tickets: this.file.ticket.map(({ kid, secret }) => ({ kid, secret })),
      deviceTokens: this.publicKeys('deviceToken'),
    }
  }

  /** False where another process made one first: that one counts. Nobody ever reads half of a file. */
  private publish(path: string): boolean {
    const temporary = this.writeBeside(path)
    try {
      linkSync(temporary, path)
      return true
    } catch (error) {
      if (errorCode(error) === 'EEXIST') return false
      throw error
    } finally {
      rmSync(temporary, { force: true })
    }
  }

  private writeBeside(path: string): string {
    mkdirSync(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}.tmp`
    const fd = openSync(temporary, 'w', 0o600)
    try {
      writeSync(fd, `${JSON.stringify(this.file, null, 2)}\n`)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    return temporary
  }
}

function newKid(): string {
  return randomBytes(KID_BYTES).toString('hex')
}

function newSigningKey(createdAtMs: number): StoredSigningKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { kid: newKid(), createdAtMs, privateJwk: privateKey.export({ format: 'jwk' }) }
}

function newSecret(createdAtMs: number): StoredSecret {
  return { kid: newKid(), createdAtMs, secret: randomBytes(SECRET_BYTES).toString('base64url') }
}

function toMacKey(stored: StoredSecret): MacKey {
  return { kid: stored.kid, secret: Buffer.from(stored.secret, 'base64url') }
}

function publicPart(privateJwk: JsonWebKey): JsonWebKey {
  const key: KeyObject = createPublicKey({ key: privateJwk, format: 'jwk' })
  return key.export({ format: 'jwk' })
}

function newest<T>(keys: T[]): T {
  const key = keys.at(-1)
  if (!key) throw new KeyringError('a kind without a key')
  return key
}

function problemOf(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'not an object'
  const file = value as Record<string, unknown>
  if (file.version !== 1) return `version ${String(file.version)} is unknown`
  for (const kind of KEY_KINDS) {
    const keys = file[kind]
    if (!Array.isArray(keys) || keys.length === 0) return `no ${kind} key`
    const isSigning = (SIGNING_KINDS as readonly string[]).includes(kind)
    for (const key of keys as Record<string, unknown>[]) {
      if (typeof key?.kid !== 'string') return `a ${kind} key without kid`
      if (isSigning ? !isPrivateJwk(key.privateJwk) : !isSecret(key.secret)) return `${kind} key ${key.kid} is no key`
    }
  }
  return null
}

function isPrivateJwk(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const jwk = value as JsonWebKey
  return jwk.kty === 'EC' && jwk.crv === 'P-256' && [jwk.d, jwk.x, jwk.y].every((part) => typeof part === 'string')
}

function isSecret(value: unknown): boolean {
  return typeof value === 'string' && Buffer.from(value, 'base64url').length >= SECRET_BYTES
}

function readIfPresent(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null
    throw new KeyringError(`cannot read the keyring ${path}`, { cause: error })
  }
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}
