/**
 * The keys of the service. Each key has a kind and an id (`kid`), and a state: an added key verifies, the one active key
 * of its kind signs and verifies, and a replaced key verifies what it signed. So a key can be exchanged without a gap:
 * add it everywhere, activate it, and retire the old one.
 *
 * A Keyring is the content of one file, which the cores share (cli/keyring-file.ts). A process keeps one Keyring and
 * replaces its content at a reload (`use`), so that all parts of the process see the new keys at once.
 *
 * Transports get an extract (`transportKeys`): enough to verify device tokens and to make tickets. It cannot sign a token
 * or a registrationId, and it cannot read a stored secret.
 */
import { createHash, createPublicKey, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto'

/** Keys that sign tokens (ES256). */
export type SigningKind = 'accessToken' | 'deviceToken'
/** Keys of 32 bytes: `registration` and `ticket` for MACs (HMAC-SHA256), `secrets` for what the store keeps encrypted. */
export type SecretKind = 'registration' | 'ticket' | 'secrets'
export type KeyKind = SigningKind | SecretKind

/**
 * `added`: verifies, and has not signed yet. `active`: signs, and verifies. `replaced`: another key is active, this one
 * verifies. `retired`: as `replaced`, for good; only for kinds whose signatures never end.
 */
export type KeyState = 'added' | 'active' | 'replaced' | 'retired'

interface StoredKey {
  kid: string
  createdAtMs: number
  state: KeyState
  /** When another key became active in its place. */
  replacedAtMs?: number
}

export interface StoredSigningKey extends StoredKey {
  privateJwk: JsonWebKey
}

export interface StoredSecret extends StoredKey {
  /** base64url, 32 bytes. */
  secret: string
}

/**
 * The file. The active key of a kind stands last: release 0.1 signs with the last key and does not know `id`, `revision`,
 * states and the kind `secrets`.
 */
export interface KeyringFile {
  version: 1
  /** The fingerprint of the keyring. It stays when keys change, so that two keyrings can be told apart. */
  id: string
  /** Grows by 1 with each change. */
  revision: number
  accessToken: StoredSigningKey[]
  deviceToken: StoredSigningKey[]
  registration: StoredSecret[]
  ticket: StoredSecret[]
  /** Empty in a keyring of release 0.1: then secrets are stored in clear text. */
  secrets: StoredSecret[]
}

/** A secret key, ready to use. */
export interface MacKey {
  kid: string
  secret: Buffer
}

/** The keys of one kind as they are now: a reload changes the answers. */
export interface MacKeys {
  /** Signs. */
  readonly active: MacKey
  /** A key that verifies. */
  get(kid: string): MacKey | undefined
}

/** Names the content of a keyring. */
export interface KeyringMark {
  id: string
  revision: number
}

/** The part of a keyring that a transport needs; JSON, for its workers. The active key of a kind stands last. */
export interface TransportKeys {
  /** Absent in an extract that release 0.1 wrote. */
  keyring?: KeyringMark
  tickets: { kid: string; secret: string }[]
  deviceTokens: { kid: string; publicJwk: JsonWebKey }[]
}

export interface KeyView {
  kind: KeyKind
  kid: string
  createdAtMs: number
  state: KeyState
  /** Null until another key is active in its place. */
  replacedAtMs: number | null
}

const SIGNING_KINDS: readonly SigningKind[] = ['accessToken', 'deviceToken']
const SECRET_KINDS: readonly SecretKind[] = ['registration', 'ticket', 'secrets']
export const KEY_KINDS: readonly KeyKind[] = [...SIGNING_KINDS, ...SECRET_KINDS]
/** What these keys have made has no end of its own, so a retired key stays until an operator voids it. */
export const ENDLESS_KINDS: readonly KeyKind[] = ['registration', 'secrets']

/** Each error says what happened; its message adds the next move. docs/operate/keys.md lists them. */
export const KeyringErrors = {
  keyring_missing: 'there is no keyring file',
  keyring_unreadable: 'the keyring file cannot be read or written',
  keyring_exposed: 'other users of the machine can read the keyring file',
  keyring_invalid: 'the file is not a keyring',
  keyring_exists: 'there is a keyring file already',
  keyring_mismatch: 'the keyring is not that of the installation',
  keyring_outdated: 'the keyring file lacks the latest change',
  keyring_unread: 'a process that runs has not read the keyring file since its last change',
  key_unknown: 'the keyring has no such key',
  key_in_use: 'the key is still needed',
} as const
export type KeyringErrorCode = keyof typeof KeyringErrors

export class KeyringError extends Error {
  override readonly name = 'KeyringError'

  constructor(
    readonly code: KeyringErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`${message} (${code})`, options)
  }
}

/** Length of a kid: 6 random bytes as hex. Short, because registrationIds and tickets carry one. */
const KID_BYTES = 6
const ID_BYTES = 8
const SECRET_BYTES = 32

export class Keyring {
  private readonly listeners = new Set<() => void>()
  // Made at the first use after a change.
  private readonly macs = new Map<SecretKind, Map<string, MacKey>>()
  private readonly publics = new Map<SigningKind, { kid: string; publicJwk: JsonWebKey }[]>()
  readonly registrationKeys: MacKeys
  /** Null stands for no key: a keyring of release 0.1. */
  readonly secretsKeys: {
    readonly active: MacKey | null
    get(kid: string): MacKey | undefined
    onChange(listener: () => void): () => void
  }

  private constructor(private file: KeyringFile) {
    const keyring = this
    this.registrationKeys = {
      get active() {
        return keyring.macKey('registration')
      },
      get: (kid) => this.macsOf('registration').get(kid),
    }
    this.secretsKeys = {
      get active() {
        return keyring.hasActive('secrets') ? keyring.macKey('secrets') : null
      },
      get: (kid) => this.macsOf('secrets').get(kid),
      onChange: (listener) => this.onChange(listener),
    }
  }

  /** One active key of each kind, in memory only. */
  static generate(nowMs: number): Keyring {
    return new Keyring({
      version: 1,
      id: randomBytes(ID_BYTES).toString('hex'),
      revision: 1,
      accessToken: [newSigningKey(nowMs, 'active')],
      deviceToken: [newSigningKey(nowMs, 'active')],
      registration: [newSecret(nowMs, 'active')],
      ticket: [newSecret(nowMs, 'active')],
      secrets: [newSecret(nowMs, 'active')],
    })
  }

  /** Throws KeyringError `keyring_invalid`. No error quotes the text. */
  static parse(text: string, source = 'keyring'): Keyring {
    const invalid = (problem: string) =>
      new KeyringError('keyring_invalid', `${source} is not a keyring: ${problem}. Bring back a good copy`)
    if (text.trim() === '') throw invalid('it is empty')
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      // The cause would quote the text, which is secret.
      throw invalid('it is not JSON')
    }
    const problem = problemOf(value)
    if (problem) throw invalid(problem)
    return new Keyring(completed(value as KeyringFile))
  }

  /** The text of the file. */
  serialize(): string {
    return `${JSON.stringify(this.file, null, 2)}\n`
  }

  /** A copy, for a change that may still fail. */
  copy(): Keyring {
    return new Keyring(structuredClone(this.file))
  }

  get id(): string {
    return this.file.id
  }

  get mark(): KeyringMark {
    return { id: this.file.id, revision: this.file.revision }
  }

  /**
   * Replaces the keys by those of another reading of the same keyring. Throws KeyringError and keeps the present keys if
   * it is another keyring, or an older state of this one.
   */
  use(read: Keyring): void {
    requireSuccessor(this.mark, read.mark)
    this.file = read.file
    this.changed()
  }

  /** Calls the listener after each change. Returns a function that removes it. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  /** Adds a key, which verifies and does not sign. Returns its kid. */
  add(kind: KeyKind, nowMs: number): string {
    const isSigning = kind === 'accessToken' || kind === 'deviceToken'
    const key = isSigning ? newSigningKey(nowMs, 'added') : newSecret(nowMs, 'added')
    this.change(kind, [key, ...this.keysOf(kind)])
    return key.kid
  }

  /** An added or replaced key signs from now on; the key that signed until now is replaced. */
  activate(kind: KeyKind, kid: string, nowMs: number): void {
    const key = this.require(kind, kid)
    if (key.state === 'active') throw new KeyringError('key_in_use', `${kind} key ${kid} is the active one already`)
    if (key.state === 'retired') throw new KeyringError('key_in_use', `${kind} key ${kid} is retired: add another key`)
    const { replacedAtMs: _, ...rest } = key
    const others = this.keysOf(kind)
      .filter((other) => other !== key)
      .map((other) =>
        other.state === 'active' ? { ...other, state: 'replaced' as const, replacedAtMs: nowMs } : other,
      )
    this.change(kind, [...others, { ...rest, state: 'active' }])
  }

  /**
   * The key is not needed any more. A key of an endless kind goes on to verify, until `discard`. Any other key is
   * removed: everything that it signed is refused.
   */
  retire(kind: KeyKind, kid: string): void {
    const key = this.require(kind, kid)
    this.refuseActive(kind, key)
    const isKept = ENDLESS_KINDS.includes(kind) && key.state !== 'added'
    const others = this.keysOf(kind)
    this.change(
      kind,
      isKept
        ? others.map((other) => (other === key ? { ...key, state: 'retired' } : other))
        : others.filter((other) => other !== key),
    )
  }

  /** Removes a key that is not active: everything that it signed or encrypted is void. */
  discard(kind: KeyKind, kid: string): void {
    const key = this.require(kind, kid)
    this.refuseActive(kind, key)
    this.change(
      kind,
      this.keysOf(kind).filter((other) => other !== key),
    )
  }

  /** The keys of a kind, without their secret parts; the active one stands last. */
  keys(kind: KeyKind): KeyView[] {
    return this.keysOf(kind).map(({ kid, createdAtMs, state, replacedAtMs = null }) => ({
      ...{ kind, kid, createdAtMs, state, replacedAtMs },
    }))
  }

  has(kind: KeyKind, kid: string): boolean {
    return this.keysOf(kind).some((key) => key.kid === kid)
  }

  /** False only for `secrets` in a keyring of release 0.1. */
  hasActive(kind: KeyKind): boolean {
    return this.keysOf(kind).at(-1)?.state === 'active'
  }

  /** The kid of the key that signs now. */
  activeKid(kind: KeyKind): string {
    return last<StoredKey>(this.file[kind]).kid
  }

  /** The private key that signs now. */
  signingKey(kind: SigningKind): StoredSigningKey {
    return last(this.file[kind])
  }

  /** Public keys of a kind, all of which verify. */
  publicKeys(kind: SigningKind): { kid: string; publicJwk: JsonWebKey }[] {
    const known = this.publics.get(kind)
    if (known) return known
    const keys = this.file[kind].map(({ kid, privateJwk }) => ({ kid, publicJwk: publicPart(privateJwk) }))
    this.publics.set(kind, keys)
    return keys
  }

  /** The secret that signs now. */
  macKey(kind: SecretKind): MacKey {
    return this.macsOf(kind).get(last(this.file[kind]).kid) as MacKey
  }

  transportKeys(): TransportKeys {
    return {
      keyring: this.mark,
      tickets: this.file.ticket.map(({ kid, secret }) => ({ kid, secret })),
      deviceTokens: this.publicKeys('deviceToken'),
    }
  }

  private keysOf(kind: KeyKind): readonly (StoredSigningKey | StoredSecret)[] {
    return this.file[kind]
  }

  private require(kind: KeyKind, kid: string): StoredSigningKey | StoredSecret {
    const key = this.keysOf(kind).find((one) => one.kid === kid)
    if (!key)
      throw new KeyringError('key_unknown', `there is no ${kind} key ${kid}: \`borealis keyring status\` lists all`)
    return key
  }

  private refuseActive(kind: KeyKind, { kid, state }: StoredKey): void {
    if (state !== 'active') return
    throw new KeyringError('key_in_use', `${kind} key ${kid} is the active one: add and activate another key first`)
  }

  private change(kind: KeyKind, keys: readonly (StoredSigningKey | StoredSecret)[]): void {
    this.file = { ...this.file, revision: this.file.revision + 1, [kind]: keys }
    this.changed()
  }

  private changed(): void {
    this.macs.clear()
    this.publics.clear()
    for (const listener of this.listeners) listener()
  }

  private macsOf(kind: SecretKind): Map<string, MacKey> {
    const known = this.macs.get(kind)
    if (known) return known
    const keys = this.file[kind].map(({ kid, secret }) => ({ kid, secret: Buffer.from(secret, 'base64url') }))
    const macs = new Map(keys.map((key) => [key.kid, key]))
    this.macs.set(kind, macs)
    return macs
  }
}

/** Throws KeyringError unless `next` is the keyring of `present`, in the same or a later state. */
export function requireSuccessor(present: KeyringMark, next: KeyringMark): void {
  if (next.id !== present.id) {
    throw new KeyringError(
      'keyring_mismatch',
      `the file has keyring ${next.id}, and this process runs with keyring ${present.id}: bring back that file`,
    )
  }
  if (next.revision < present.revision) {
    throw new KeyringError(
      'keyring_outdated',
      `the file has revision ${next.revision} of the keyring, and this process runs with revision ` +
        `${present.revision}: copy the newest file`,
    )
  }
}

/** Throws KeyringError `keyring_invalid`. No error quotes the text. */
export function parseTransportKeys(text: string, source: string): TransportKeys {
  const invalid = () =>
    new KeyringError(
      'keyring_invalid',
      `${source} is not an extract of a keyring: make one with \`borealis keyring extract\``,
    )
  let keys: Partial<TransportKeys> | null
  try {
    keys = JSON.parse(text) as Partial<TransportKeys> | null
  } catch {
    throw invalid()
  }
  const { tickets, deviceTokens, keyring } = keys ?? {}
  if (!Array.isArray(tickets) || !Array.isArray(deviceTokens)) throw invalid()
  return { ...(keyring && { keyring }), tickets, deviceTokens }
}

function newKid(): string {
  return randomBytes(KID_BYTES).toString('hex')
}

function newSigningKey(createdAtMs: number, state: KeyState): StoredSigningKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { kid: newKid(), createdAtMs, state, privateJwk: privateKey.export({ format: 'jwk' }) }
}

function newSecret(createdAtMs: number, state: KeyState): StoredSecret {
  return { kid: newKid(), createdAtMs, state, secret: randomBytes(SECRET_BYTES).toString('base64url') }
}

function publicPart(privateJwk: JsonWebKey): JsonWebKey {
  return createPublicKey({ key: privateJwk, format: 'jwk' }).export({ format: 'jwk' })
}

function last<T>(keys: readonly T[]): T {
  const key = keys.at(-1)
  if (!key) throw new Error('a kind without a key')
  return key
}

/** Adds what release 0.1 did not write. All copies of a keyring of that release get the same id. */
function completed(file: KeyringFile): KeyringFile {
  const { version, id = idOf(file), revision = 0, accessToken, deviceToken, registration, ticket, secrets = [] } = file
  return {
    ...{ version, id, revision },
    accessToken: withStates(accessToken),
    deviceToken: withStates(deviceToken),
    registration: withStates(registration),
    ticket: withStates(ticket),
    secrets: withStates(secrets),
  }
}

/** Release 0.1 never retired its oldest registration key unless it had leaked. */
function idOf({ registration }: KeyringFile): string {
  const hash = createHash('sha256')
    .update('borealis keyring')
    .update(registration[0]?.kid ?? '')
  return hash.digest('hex').slice(0, 2 * ID_BYTES)
}

/** A key without a state is one of release 0.1, whose last key signs. */
function withStates<K extends StoredKey>(keys: readonly K[]): K[] {
  const isOld = keys.at(-1)?.state === undefined
  return keys.map((key, index) => {
    const isLast = index === keys.length - 1
    if (isOld && isLast) return { ...key, state: 'active' }
    if (key.state !== undefined && !(isOld && key.state === 'active')) return key
    return { ...key, state: 'replaced', replacedAtMs: keys[index + 1]?.createdAtMs ?? key.createdAtMs }
  })
}

const STATES: readonly unknown[] = ['added', 'active', 'replaced', 'retired', undefined] satisfies (
  | KeyState
  | undefined
)[]

function problemOf(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'it is not an object'
  const file = value as Record<string, unknown>
  if (file.version !== 1) return `version ${String(file.version)} is unknown`
  if (file.id !== undefined && !(typeof file.id === 'string' && /^[0-9a-f]{16}$/.test(file.id)))
    return 'its id is wrong'
  if (file.revision !== undefined && !Number.isSafeInteger(file.revision)) return 'its revision is wrong'
  for (const kind of KEY_KINDS) {
    const keys = file[kind] ?? (kind === 'secrets' ? [] : null)
    if (!Array.isArray(keys) || (keys.length === 0 && kind !== 'secrets')) return `no ${kind} key`
    const problem = problemOfKind(kind, keys)
    if (problem) return problem
  }
  return null
}

function problemOfKind(kind: KeyKind, keys: readonly Record<string, unknown>[]): string | null {
  const isSigning = (SIGNING_KINDS as readonly string[]).includes(kind)
  for (const [index, key] of keys.entries()) {
    if (typeof key?.kid !== 'string') return `a ${kind} key without kid`
    if (isSigning ? !isPrivateJwk(key.privateJwk) : !isSecret(key.secret)) return `${kind} key ${key.kid} is no key`
    if (!STATES.includes(key.state)) return `${kind} key ${key.kid} has an unknown state`
    if (keys.some((other, at) => at < index && other.kid === key.kid))
      return `${kind} key ${key.kid} stands there twice`
  }
  const end = keys.at(-1)?.state
  const isSigned = end === undefined || end === 'active'
  if (!isSigned && !(kind === 'secrets' && keys.every(({ state }) => state === 'added'))) {
    return `its last ${kind} key is not active`
  }
  // Release 0.1 appends a key without a state behind an active one.
  if (end === 'active' && keys.slice(0, -1).some(({ state }) => state === 'active'))
    return `two ${kind} keys are active`
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
