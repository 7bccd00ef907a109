/** Forged credentials: invalid tokens and tickets, each with the close code that must follow. */
import { createHmac, createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { Close } from '../../protocol/close-codes.js'
import type { Credential } from '../../protocol/frame-types.js'
import { DEVICE_TOKEN_AUDIENCE, DEVICE_TOKEN_TYP } from '../../src/device-token.js'
import { Keyring, type StoredSigningKey } from '../../src/keyring.js'
import { MAC_BYTES, type Ticket, TicketBox } from '../../src/transport/admission/ticket.js'
import { below, noise, pick, type Random } from './chance.js'

export interface Forgery {
  name: string
  credential: Credential
  code: number
}

export interface ForgerOptions {
  keyring: Keyring
  issuer: string
  /** The devices whose messages the forger wants. */
  victims: readonly string[]
}

type Json = Record<string, unknown>

const DAY_SECONDS = 86_400
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

function signed(
  key: StoredSigningKey,
  header: Json,
  claims: Json,
  dsaEncoding: 'ieee-p1363' | 'der' = 'ieee-p1363',
): string {
  const text = `${encode(header)}.${encode(claims)}`
  const privateKey = createPrivateKey({ key: key.privateJwk, format: 'jwk' })
  return `${text}.${sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding }).toString('base64url')}`
}

export class Forger {
  private readonly tokens: { name: string; token: string; code: number }[]
  private readonly good: string
  private readonly tickets: { name: string; ticket: Uint8Array }[]
  private readonly goodTicket: Uint8Array

  constructor({ keyring, issuer, victims }: ForgerOptions) {
    const nowSeconds = Math.floor(Date.now() / 1000)
    const key = keyring.signingKey('deviceToken')
    const other = Keyring.generate(Date.now())
    const header: Json = { alg: 'ES256', typ: DEVICE_TOKEN_TYP, kid: key.kid }
    const [victim = '', another = ''] = victims
    const claims: Json = {
      iss: issuer,
      aud: DEVICE_TOKEN_AUDIENCE,
      sub: victim,
      fleet: 'f',
      iat: nowSeconds,
      exp: nowSeconds + DAY_SECONDS,
    }
    this.good = signed(key, header, claims)
    const [goodHeader, goodClaims, goodSignature] = this.good.split('.') as [string, string, string]
    const publicKey = createPublicKey({ key: key.privateJwk, format: 'jwk' })
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
    const publicJwk = publicKey.export({ format: 'jwk' })
    const strangerPublic = createPublicKey({ key: other.signingKey('deviceToken').privateJwk, format: 'jwk' }).export({
      format: 'jwk',
    })
    const hmac = (alg: string, secret: string) => {
      const text = `${encode({ ...header, alg })}.${goodClaims}`
      return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
    }
    const bad = (name: string, token: string, code: number = Close.bad_token.code) => ({ name, token, code })
    const ofStranger = { ...other.signingKey('deviceToken'), kid: key.kid }
    this.tokens = [
      ...['none', 'None', 'NONE', '', 'ES256 '].map((alg) =>
        bad(`alg ${alg}`, `${encode({ ...header, alg })}.${goodClaims}.`),
      ),
      bad('alg none with a signature', `${encode({ ...header, alg: 'none' })}.${goodClaims}.${goodSignature}`),
      bad('HS256 with the public key as PEM', hmac('HS256', pem)),
      bad('HS256 with the public key as JWK', hmac('HS256', JSON.stringify(publicJwk))),
      bad('ES256 in the header, HMAC as signature', hmac('ES256', pem)),
      bad('no signature', `${goodHeader}.${goodClaims}.`),
      bad('two parts', `${goodHeader}.${goodClaims}`),
      bad('four parts', `${this.good}.x`),
      bad('a signature of zeros', `${goodHeader}.${goodClaims}.${Buffer.alloc(64).toString('base64url')}`),
      bad('a signature too short', `${goodHeader}.${goodClaims}.${Buffer.alloc(63, 1).toString('base64url')}`),
      bad('a DER signature', signed(key, header, claims, 'der')),
      bad(
        "another's claims under this signature",
        `${goodHeader}.${encode({ ...claims, sub: another })}.${goodSignature}`,
      ),
      bad('wrong typ', signed(key, { ...header, typ: 'at+jwt' }, claims)),
      bad('no typ', signed(key, { alg: 'ES256', kid: key.kid }, claims)),
      bad(
        'the access token key',
        signed(keyring.signingKey('accessToken'), { ...header, kid: keyring.signingKey('accessToken').kid }, claims),
      ),
      bad('the access token key under this kid', signed(keyring.signingKey('accessToken'), header, claims)),
      bad(
        "a stranger's key",
        signed(other.signingKey('deviceToken'), { ...header, kid: other.signingKey('deviceToken').kid }, claims),
      ),
      bad("a stranger's key under this kid", signed(ofStranger, header, claims)),
      bad(
        'a key in the header',
        signed(ofStranger, { ...header, jwk: strangerPublic, jku: 'http://127.0.0.1/jwks' }, claims),
      ),
      ...['', '__proto__', 'constructor', '../../etc/passwd', 0, null, {}].map((kid) =>
        bad(`kid ${JSON.stringify(kid)}`, signed(key, { ...header, kid }, claims)),
      ),
      bad('another issuer', signed(key, header, { ...claims, iss: 'https://elsewhere' })),
      bad('no issuer', signed(key, header, { ...claims, iss: undefined })),
      bad('another audience', signed(key, header, { ...claims, aud: 'borealis-push' })),
      bad('audiences', signed(key, header, { ...claims, aud: [DEVICE_TOKEN_AUDIENCE] })),
      ...['', 'dev_x', `${victim}\n`, '*', '>', 7, null, [victim], `dev_${'A'.repeat(20)}`].map((sub) =>
        bad(`sub ${JSON.stringify(sub)}`, signed(key, header, { ...claims, sub })),
      ),
      ...[undefined, null, '9999999999', {}, [nowSeconds + DAY_SECONDS], true].map((exp) =>
        bad(`exp ${JSON.stringify(exp)}`, signed(key, header, { ...claims, exp })),
      ),
      bad('expired', signed(key, header, { ...claims, exp: nowSeconds - 3_600 }), Close.token_expired.code),
      bad('expired long ago', signed(key, header, { ...claims, exp: -1 }), Close.token_expired.code),
      bad('claims that are no object', `${goodHeader}.${encode(null)}.${goodSignature}`),
      bad('too long', signed(key, header, { ...claims, pad: 'x'.repeat(2_048) })),
      bad('dots', '.'.repeat(2_000)),
      bad('an empty token', ''),
    ]
    const box = new TicketBox(keyring.transportKeys().tickets)
    const strangers = new TicketBox(other.transportKeys().tickets)
    const ticket: Ticket = {
      ...{ device: victim, instance: 'local', worker: '0-0', connection: 1, revision: 1, subscriptions: 0 },
      expiresAtMs: Date.now() + DAY_SECONDS * 1000,
      tokenExpiresAtMs: Date.now() + DAY_SECONDS * 1000,
      ...{ tokenIssuedAtMs: Date.now(), fleet: 'fleet' },
    }
    this.goodTicket = box.seal(ticket)
    const good = this.goodTicket
    const anothers = box.seal({ ...ticket, device: another })
    const renamed = Buffer.concat([anothers.subarray(0, -MAC_BYTES), good.subarray(-MAC_BYTES)])
    this.tickets = [
      { name: 'of another service', ticket: strangers.seal(ticket) },
      { name: 'expired', ticket: box.seal({ ...ticket, expiresAtMs: Date.now() - 3_600_000 }) },
      { name: 'of a token that expired', ticket: box.seal({ ...ticket, expiresAtMs: 0, tokenExpiresAtMs: 0 }) },
      { name: "with another device's name", ticket: renamed },
      { name: 'without its MAC', ticket: good.subarray(0, -MAC_BYTES) },
      { name: 'with a shorter MAC', ticket: good.subarray(0, -1) },
      { name: 'with something behind', ticket: Buffer.concat([good, Buffer.alloc(1)]) },
      { name: 'doubled', ticket: Buffer.concat([good, good]) },
      { name: 'empty', ticket: new Uint8Array() },
      { name: 'as long as a frame may be', ticket: new Uint8Array(9_000) },
    ]
  }

  make(random: Random): Forgery {
    switch (below(random, 4)) {
      case 0:
        return { ...this.flippedToken(random), code: Close.bad_token.code }
      case 1:
        return { ...this.flippedTicket(random), code: Close.bad_ticket.code }
      case 2: {
        const { name, ticket } = pick(random, this.tickets)
        return { name: `ticket ${name}`, credential: { kind: 'ticket', ticket }, code: Close.bad_ticket.code }
      }
      default: {
        const { name, token, code } = pick(random, this.tokens)
        return { name: `token: ${name}`, credential: { kind: 'token', token }, code }
      }
    }
  }

  /** Flips one bit of the decoded bytes, because a flip in the base64url text may change nothing. */
  private flippedToken(random: Random): Pick<Forgery, 'name' | 'credential'> {
    const parts = this.good.split('.').map((part) => Buffer.from(part, 'base64url'))
    const chosen = below(random, parts.length)
    flip(random, parts[chosen] ?? Buffer.alloc(1))
    const token = parts.map((part) => part.toString('base64url')).join('.')
    return { name: `token: a bit of part ${chosen} flipped`, credential: { kind: 'token', token } }
  }

  private flippedTicket(random: Random): Pick<Forgery, 'name' | 'credential'> {
    const ticket = Buffer.from(this.goodTicket)
    if (below(random, 8) === 0) ticket.set(noise(random, MAC_BYTES), ticket.length - MAC_BYTES)
    else flip(random, ticket)
    return { name: 'ticket: a bit flipped', credential: { kind: 'ticket', ticket } }
  }
}

function flip(random: Random, bytes: Buffer): void {
  const at = below(random, bytes.length)
  bytes[at] = (bytes[at] ?? 0) ^ (1 << below(random, 8))
}
