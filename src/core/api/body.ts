/**
 * Reads bodies of requests: JSON in UTF-8, bounded while it is read. A route reads its body after it knows the caller, so
 * that a sender without a token cannot make us keep one. Where the body itself authenticates the caller (enrolment, the
 * token endpoint) it is small, so that strangers take nothing of the memory that large bodies share.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import { parseJson } from '../domain/json.js'
import type { BaseContext, HttpCall } from './call.js'

/** The number of requests in flight bounds bodies up to this size; larger ones share a budget (BodyBudget). */
const SMALL_BYTES = 64 * 1024

/** The longest body that a stranger may send. */
const STRANGERS_BYTES_MAX = 4 * 1024

/** `small`: of a stranger. `one`: of a known caller. `batch`: of a known caller, with many messages. */
export type BodyKind = 'small' | 'one' | 'batch'

/** Keeps fastify from reading bodies. */
export function leaveBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
}

/**
 * The step throws CodedError `unsupported_media_type`, `payload_too_large`, `malformed_json`, `request_timeout`,
 * `overloaded`.
 */
export function readJson(kind: BodyKind) {
  return async function readJson<C extends HttpCall<BaseContext>>(call: C): Promise<C & { body: unknown }> {
    const { bodyBytesMax, batchBytesMax } = call.context.bodies.limits
    const bytesMax = { small: STRANGERS_BYTES_MAX, one: bodyBytesMax, batch: batchBytesMax }
    checkMediaType(call.request.headers)
    return { ...call, body: parseJson(await readBytes(call, bytesMax[kind])) }
  }
}

export function hasBody(headers: IncomingHttpHeaders): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
}

/** A body that is too large is read to its end and dropped: the sender reads our answer only after it sent everything. */
export function readBytes(call: HttpCall<BaseContext>, bytesMax: number): Promise<Buffer> {
  const { raw, headers } = call.request
  const tooLarge = () => new CodedError('payload_too_large', `the body may have ${bytesMax} bytes`, { bytesMax })
  const announced = Number(headers['content-length'])
  if (announced > bytesMax) return Promise.reject(tooLarge())
  // The sender left during an earlier step: no event would come any more, not even `end`.
  if (call.reply.raw.destroyed) return Promise.reject(new CodedError('request_timeout', 'the body did not arrive'))
  return new Promise((resolve, reject) => {
    // Without an announced length, the body may be as long as is allowed.
    const expected = Number.isNaN(announced) ? bytesMax : announced
    if (expected > SMALL_BYTES) call.context.bodies.take(call.reply, expected)
    const chunks: Buffer[] = []
    let bytes = 0
    const end = () => {
      // A complete request emits `close` as well, and making an error costs a stack trace.
      raw.off('error', cut).off('close', cut)
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, bytes))
    }
    const cut = () => reject(new CodedError('request_timeout', 'the body did not arrive'))
    const take = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= bytesMax) chunks.push(chunk)
      else {
        chunks.length = 0
        raw.off('data', take).resume()
        reject(tooLarge())
      }
    }
    raw.on('data', take).once('end', end).once('error', cut).once('close', cut)
  })
}

const JSON_TYPE = /^application\/(?:[a-z0-9.+-]+\+)?json$/i

/** A sender that names no type, as simple clients do, means JSON. */
function checkMediaType(headers: IncomingHttpHeaders): void {
  const type = mediaTypeOf(headers)
  if (type === null || !isJson(type)) {
    throw new CodedError('unsupported_media_type', 'the body must be application/json in UTF-8', {
      header: 'content-type',
    })
  }
}

export const isJson = (type: string) => JSON_TYPE.test(type)

/** The type without its parameters; null where the text is not in UTF-8. Throws CodedError for a compressed body. */
export function mediaTypeOf(headers: IncomingHttpHeaders): string | null {
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
  return /^utf-?8$/i.test(charset) ? type : null
}
