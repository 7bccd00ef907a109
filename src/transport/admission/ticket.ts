/**
 * Tickets: sealed credentials for a reconnect. A worker verifies one without public-key operations and without a read.
 *
 * A ticket crosses the wire twice, so it is short. Sizes are in bytes, expiries in Unix seconds:
 *
 *   version (1) | first byte of the key id (1) | expiry (4) | expiry of the token (4) | issue of the token (4)
 *   | varint connection | varint revision | varint subscriptions | device | fleet | length, instance | length, worker
 *   | the first 12 bytes of the HMAC-SHA256 of all before
 *
 * A fleet id (`fleet_` and 12 of [0-9a-z]) is a byte 0 and two numbers of base 36, 4 bytes each. Version 2 has neither
 * the issue of the token nor the fleet; it is read as long as releases that write it may run.
 *
 * A device id of the form that enrolment makes (`dev_` and 20 of [0-9a-z]) is a byte 0 and two numbers to base 36 of
 * 7 bytes each; any other id is its length and its text. A MAC of 96 bits can only be guessed online, and the limits
 * of handshakes bound the guesses.
 *
 * A ticket expires no later than the device token that it descends from. It names the session that it was given to,
 * so the next session can replace that session's record with one compare-and-set.
 */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { writeVarint } from '../../../protocol/varint.js'
import type { TransportKeys } from '../../keyring.js'

export interface Ticket {
  device: string
  instance: string
  worker: string
  connection: number
  /** The revision of the session record. */
  revision: number
  /** The version of the device's subscriptions at WELCOME. */
  subscriptions: number
  expiresAtMs: number
  /** The expiry of the device token that this ticket descends from. */
  tokenExpiresAtMs: number
  /** When that token was issued; 0: a ticket of version 2 does not say. */
  tokenIssuedAtMs: number
  /** Fleet of the device; empty: a ticket of version 2 does not say. */
  fleet: string
}

const VERSION = 3
const VERSION_WITHOUT_FLEET = 2
export const MAC_BYTES = 12
/** The bytes before the first varint. */
const HEAD_BYTES = 1 + 1 + 4 + 4 + 4
const HEAD_BYTES_WITHOUT_FLEET = HEAD_BYTES - 4
const DEVICE_ID = /^dev_[0-9a-z]{20}$/
const HALF_DIGITS = 10
const HALF_BYTES = 7
const FLEET_ID = /^fleet_[0-9a-z]{12}$/
const NO_FLEET = '-'
const FLEET_HALF_DIGITS = 6
const FLEET_HALF_BYTES = 4

/** A longer ticket is refused unread. */
export const TICKET_BYTES_MAX = 256

interface Key {
  tag: number
  secret: KeyObject
}

/** Seals tickets with the newest key and opens tickets of all keys. Never throws on input of devices. */
export class TicketBox {
  private readonly keys: Key[]
  private readonly newest: Key
  /** The buffer in which a ticket is built, before it is copied. */
  private readonly draft = Buffer.alloc(TICKET_BYTES_MAX)

  constructor(keys: TransportKeys['tickets']) {
    this.keys = keys.map(({ kid, secret }) => ({
      tag: Number.parseInt(kid.slice(0, 2), 16),
      secret: createSecretKey(Buffer.from(secret, 'base64url')),
    }))
    const newest = this.keys.at(-1)
    if (!newest) throw new RangeError('no ticket key')
    this.newest = newest
  }

  seal(ticket: Ticket): Uint8Array {
    const { draft, newest } = this
    draft[0] = VERSION
    draft[1] = newest.tag
    let at = draft.writeUInt32BE(seconds(ticket.expiresAtMs), 2)
    at = draft.writeUInt32BE(seconds(ticket.tokenExpiresAtMs), at)
    at = draft.writeUInt32BE(seconds(ticket.tokenIssuedAtMs), at)
    at = writeVarint(draft, at, ticket.connection)
    at = writeVarint(draft, at, ticket.revision)
    at = writeVarint(draft, at, ticket.subscriptions)
    at = writeDevice(draft, at, ticket.device)
    at = writeFleet(draft, at, ticket.fleet)
    at = writeText(draft, at, ticket.instance)
    at = writeText(draft, at, ticket.worker)
    at += draft.write(macOf(newest, draft.subarray(0, at)), at, MAC_BYTES, 'latin1')
    return Uint8Array.prototype.slice.call(draft, 0, at)
  }

  /** Null if the ticket is expired, forged, or sealed with a retired key. */
  open(sealed: Uint8Array, nowMs: number): Ticket | null {
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    const signedBytes = bytes.length - MAC_BYTES
    const isKnown = bytes[0] === VERSION || bytes[0] === VERSION_WITHOUT_FLEET
    if (signedBytes <= HEAD_BYTES || bytes.length > TICKET_BYTES_MAX || !isKnown) return null
    const signed = bytes.subarray(0, signedBytes)
    const mac = bytes.subarray(signedBytes)
    // The ids of two keys can begin with the same byte.
    const isOurs = this.keys.some(
      (key) => key.tag === bytes[1] && timingSafeEqual(Buffer.from(macOf(key, signed), 'latin1'), mac),
    )
    if (!isOurs) return null
    const ticket = read(signed)
    return ticket.expiresAtMs > nowMs ? ticket : null
  }
}

/** The MAC as text, one character for each byte: a digest as text costs less than a digest as a buffer. */
const macOf = ({ secret }: Key, signed: Uint8Array): string =>
  createHmac('sha256', secret).update(signed).digest('binary').slice(0, MAC_BYTES)

/** Reads bytes whose MAC was verified: a worker sealed them, so they have the expected form. */
function read(bytes: Buffer): Ticket {
  const hasFleet = bytes[0] === VERSION
  let at = hasFleet ? HEAD_BYTES : HEAD_BYTES_WITHOUT_FLEET
  const number = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes.readUInt8(at++)
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
  }
  const text = () => {
    const start = at + 1
    at = start + bytes.readUInt8(at)
    return bytes.toString('latin1', start, at)
  }
  const half = () => {
    const value = bytes.readUIntBE(at, 1) * 2 ** 48 + bytes.readUIntBE(at + 1, 6)
    at += HALF_BYTES
    return value.toString(36).padStart(HALF_DIGITS, '0')
  }
  const deviceId = () => {
    if (bytes[at] !== 0) return text()
    at++
    return `dev_${half()}${half()}`
  }
  const fleetHalf = () => {
    const value = bytes.readUInt32BE(at)
    at += FLEET_HALF_BYTES
    return value.toString(36).padStart(FLEET_HALF_DIGITS, '0')
  }
  const fleetId = () => {
    if (bytes[at] !== 0) return text().replace(NO_FLEET, '')
    at++
    return `fleet_${fleetHalf()}${fleetHalf()}`
  }
  return {
    connection: number(),
    revision: number(),
    subscriptions: number(),
    device: deviceId(),
    fleet: hasFleet ? fleetId() : '',
    instance: text(),
    worker: text(),
    expiresAtMs: bytes.readUInt32BE(2) * 1000,
    tokenExpiresAtMs: bytes.readUInt32BE(6) * 1000,
    tokenIssuedAtMs: hasFleet ? bytes.readUInt32BE(10) * 1000 : 0,
  }
}

function writeDevice(into: Buffer, at: number, device: string): number {
  if (!DEVICE_ID.test(device)) return writeText(into, at, device)
  into[at] = 0
  // Ten digits to base 36 are less than 2^52, so a number holds them exactly.
  const middle = device.length - HALF_DIGITS
  const end = writeHalf(into, at + 1, device.slice(middle - HALF_DIGITS, middle))
  return writeHalf(into, end, device.slice(middle))
}

/** Six digits of base 36 are less than 2^32. */
function writeFleet(into: Buffer, at: number, fleet: string): number {
  // The length 0 would read as a fleet id.
  if (!FLEET_ID.test(fleet)) return writeText(into, at, fleet || NO_FLEET)
  into[at] = 0
  const middle = fleet.length - FLEET_HALF_DIGITS
  const end = into.writeUInt32BE(Number.parseInt(fleet.slice(middle - FLEET_HALF_DIGITS, middle), 36), at + 1)
  return into.writeUInt32BE(Number.parseInt(fleet.slice(middle), 36), end)
}

function writeHalf(into: Buffer, at: number, digits: string): number {
  const value = Number.parseInt(digits, 36)
  into[at] = Math.floor(value / 2 ** 48)
  return into.writeUIntBE(value % 2 ** 48, at + 1, 6)
}

/** Ids and names are ASCII of at most 64 characters, so that three of them fit into a ticket. */
function writeText(into: Buffer, at: number, text: string): number {
  into[at] = text.length
  return at + 1 + into.write(text, at + 1, 'latin1')
}

const seconds = (ms: number) => Math.min(Math.floor(ms / 1000), 0xffff_ffff)
