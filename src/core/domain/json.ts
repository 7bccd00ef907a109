/** JSON from outside. */
import { CodedError } from '../../../protocol/errors.js'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Throws CodedError `malformed_json`: not UTF-8, empty, or no JSON. The text is not quoted: it may hold a secret. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    throw new CodedError('malformed_json')
  }
}
