/**
 * Resume tickets: what a worker believes of a returning device without public-key work and without a read.
 *
 *   version (1) | key id (6) | expiry s (4) | token expiry s (4) | connection (8) | revision (8) | subscriptions (4)
 *   | length, device | length, instance | length, worker | HMAC-SHA256 of all before, first 16 bytes
 *
 * A ticket never outlives the device token it descends from. It names the session it was given to: where that record
 * still stands, the next session replaces it by one compare-and-set.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { TransportKeys } from '../keyring.js'

export interface Ticket {
  device: string
  instance: string
  worker: string
  connection: number
  /** Revision of the session record. */
  revision: number
  /** Version of the subscriptions that were known when it was made. */
  subscriptions: number
  expiresAtMs: number
  /** When the device token expires that all began with. */
  tokenExpiresAtMs: number
}

const VERSION = 1
const KID_BYTES = 6
const MAC_BYTES = 16
const HEAD_BYTES = 1 + KID_BYTES + 4 + 4 + 8 + 8 + 4

/** Longest ticket that is looked at. */
export const TICKET_BYTES_MAX = 256

/** Makes tickets with the newest key, and reads those of all keys. Never throws on what devices send. */
export class TicketBox {
  private readonly secrets: Map<string, Buffer>
  private readonly newestKid: string

  constructor(keys: TransportKeys['tickets']) {
    const newest = keys.at(-1)
    if (!newest) throw new RangeError('no ticket key')
    this.newestKid = newest.kid
    this.secrets = new Map(keys.map(({ kid, secret }) => [kid, Buffer.from(secret, 'base64url')]))
  }

  seal(ticket: Ticket): Uint8Array {
    const names = [ticket.device, ticket.instance, ticket.worker].map((name) => Buffer.from(name))
    const bytes = Buffer.alloc(HEAD_BYTES + names.reduce((sum, name) => sum + 1 + name.length, 0) + MAC_BYTES)
    let at = bytes.writeUInt8(VERSION, 0)
    at += bytes.write(this.newestKid, at, KID_BYTES, 'hex')
    at = bytes.writeUInt32BE(seconds(ticket.expiresAtMs), at)
    at = bytes.writeUInt32BE(seconds(ticket.tokenExpiresAtMs), at)
    at = bytes.writeBigUInt64BE(BigInt(ticket.connection), at)
    at = bytes.writeBigUInt64BE(BigInt(ticket.revision), at)
    at = bytes.writeUInt32BE(ticket.subscriptions, at)
    for (const name of names) {
      at = bytes.writeUInt8(name.length, at)
      at += name.copy(bytes, at)
    }
    this.mac(this.newestKid, bytes.subarray(0, at))?.copy(bytes, at)
    return bytes
  }

  /** Null where it is expired, forged, or made with a retired key. */
  open(sealed: Uint8Array, nowMs: number): Ticket | null {
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    if (bytes.length < HEAD_BYTES + 3 + MAC_BYTES || bytes.length > TICKET_BYTES_MAX || bytes[0] !== VERSION)
      return null
    const signed = bytes.subarray(0, bytes.length - MAC_BYTES)
    const mac = this.mac(bytes.toString('hex', 1, 1 + KID_BYTES), signed)
    if (!mac || !timingSafeEqual(mac, bytes.subarray(signed.length))) return null
    const ticket = read(signed)
    return ticket.expiresAtMs > nowMs ? ticket : null
  }

  private mac(kid: string, signed: Uint8Array): Buffer | null {
    const secret = this.secrets.get(kid)
    return secret ? createHmac('sha256', secret).update(signed).digest().subarray(0, MAC_BYTES) : null
  }
}

/** Of bytes whose MAC is right: we made them, so they have this form. */
function read(bytes: Buffer): Ticket {
  let at = 1 + KID_BYTES
  const expiresAtMs = bytes.readUInt32BE(at) * 1000
  const tokenExpiresAtMs = bytes.readUInt32BE(at + 4) * 1000
  const connection = Number(bytes.readBigUInt64BE(at + 8))
  const revision = Number(bytes.readBigUInt64BE(at + 16))
  const subscriptions = bytes.readUInt32BE(at + 24)
  at = HEAD_BYTES
  const name = () => {
    const end = at + 1 + bytes.readUInt8(at)
    const text = bytes.toString('utf8', at + 1, end)
    at = end
    return text
  }
  const device = name()
  const instance = name()
  const worker = name()
  return { device, instance, worker, connection, revision, subscriptions, expiresAtMs, tokenExpiresAtMs }
}

const seconds = (ms: number) => Math.min(Math.floor(ms / 1000), 0xffff_ffff)
