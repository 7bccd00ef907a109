/**
 * The registrationId, to which app servers send. It contains the address of the registration and is authenticated, so that
 * accepting a message needs no lookup. Only the core reads its contents.
 *
 *   base64url( version 1 | kid length 1 | kid | msgpack [project, application, device, number] | MAC 16 )
 *
 * The MAC is HMAC-SHA256 over a label and everything before it, cut to 16 bytes.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Packr } from 'msgpackr'
import type { MacKey, MacKeys } from '../../keyring.js'

export interface RegistrationAddress {
  project: string
  application: string
  device: string
  /** Number of the registration on the device. */
  registration: number
}

/** Longest registrationId accepted, in characters. The core makes ids of about 140 characters. */
export const REGISTRATION_ID_CHARS_MAX = 512

const VERSION = 1
const MAC_BYTES = 16
const HEADER_BYTES = 2
/** Part of the input of the MAC, so that no MAC of the same key over other data is valid for a registrationId. */
const LABEL = 'borealis registration id'

const packr = new Packr({ useRecords: false })

export function encodeRegistrationId(key: MacKey, address: RegistrationAddress): string {
  const kid = Buffer.from(key.kid, 'latin1')
  const payload = packr.pack([address.project, address.application, address.device, address.registration])
  const signed = Buffer.concat([Buffer.of(VERSION, kid.length), kid, payload])
  return Buffer.concat([signed, macOf(key, signed)]).toString('base64url')
}

/** Null: the text is malformed or forged, or its key is unknown. The MAC is verified before the payload is decoded. */
export function decodeRegistrationId(keys: Pick<MacKeys, 'get'>, text: string): RegistrationAddress | null {
  if (text.length > REGISTRATION_ID_CHARS_MAX) return null
  const bytes = Buffer.from(text, 'base64url')
  // Node ignores invalid characters of base64url, so only the canonical spelling is accepted.
  if (bytes.toString('base64url') !== text) return null
  const kidEnd = HEADER_BYTES + (bytes[1] ?? 0)
  const macStart = bytes.length - MAC_BYTES
  if (bytes[0] !== VERSION || kidEnd >= macStart) return null
  const key = keys.get(bytes.toString('latin1', HEADER_BYTES, kidEnd))
  if (!key) return null
  const expected = macOf(key, bytes.subarray(0, macStart))
  if (!timingSafeEqual(expected, bytes.subarray(macStart))) return null
  const [project, application, device, registration] = packr.unpack(bytes.subarray(kidEnd, macStart)) as [
    string,
    string,
    string,
    number,
  ]
  return { project, application, device, registration }
}

function macOf(key: MacKey, signed: Buffer): Buffer {
  return createHmac('sha256', key.secret).update(LABEL).update(signed).digest().subarray(0, MAC_BYTES)
}
