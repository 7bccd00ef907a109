/** Bodies of requests: JSON in UTF-8, whole, bounded by the gateway before it comes here. */
import { CodedError } from '../../../protocol/errors.js'

const JSON_TYPE = /^application\/(?:[a-z0-9.+-]+\+)?json$/i

/** A sender that names no type, as simple clients do, means JSON. */
export function checkMediaType(headers: { 'content-type'?: string; 'content-encoding'?: string }): void {
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding.toLowerCase() !== 'identity') {
    throw new CodedError('unsupported_media_type', 'the body must not be compressed', { header: 'content-encoding' })
  }
  const [type = '', ...parameters] = (headers['content-type'] ?? 'application/json').split(';').map((p) => p.trim())
  const charset =
    parameters
      .find((p) => /^charset=/i.test(p))
      ?.slice('charset='.length)
      .replaceAll('"', '') ?? 'utf-8'
  if (!JSON_TYPE.test(type) || !/^utf-?8$/i.test(charset)) {
    throw new CodedError('unsupported_media_type', 'the body must be application/json in UTF-8', {
      header: 'content-type',
    })
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Throws CodedError `malformed_json`: not UTF-8, empty, or no JSON. The text is not quoted: it may hold a secret. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    throw new CodedError('malformed_json')
  }
}
