/**
 * Bodies of requests: JSON in UTF-8, bounded while it is read. Reading is a step of a flow of its own, so that a sender
 * without a token cannot make us keep a body. Where the body is what authenticates (enrolment, the token endpoint), it is
 * a small one: strangers take nothing of what large bodies share.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import { parseJson } from '../domain/json.js'
import type { BaseContext, HttpCall } from './call.js'

/** Bodies up to this size are bounded by the number of requests in flight; larger ones share what there is for them. */
const SMALL_BYTES = 64 * 1024

/** Of a body that anyone may send. */
const STRANGERS_BYTES_MAX = 4 * 1024

/** Leaves bodies to the flows. */
export function leaveBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
}

/**
 * The step: throws CodedError `unsupported_media_type`, `payload_too_large`, `malformed_json`, `request_timeout`,
 * `overloaded`.
 */
export function readJson(kind: 'small' | 'one' | 'batch') {
  return async function readJson<C extends HttpCall<BaseContext>>(call: C): Promise<C & { body: unknown }> {
    const { bodyBytesMax, batchBytesMax } = call.context.bodies.limits
    const bytesMax = { small: STRANGERS_BYTES_MAX, one: bodyBytesMax, batch: batchBytesMax }
    checkMediaType(call.request.headers)
    return { ...call, body: parseJson(await readBytes(call, bytesMax[kind])) }
  }
}

/** What is too large is not kept, but still taken off the socket: a sender hears its answer only if it could send. */
export function readBytes(call: HttpCall<BaseContext>, bytesMax: number): Promise<Buffer> {
  const { raw, headers } = call.request
  const tooLarge = () => new CodedError('payload_too_large', `the body may have ${bytesMax} bytes`, { bytesMax })
  const announced = Number(headers['content-length'])
  if (announced > bytesMax) return Promise.reject(tooLarge())
  // The sender left while a step before this one waited: nothing would come any more, not even the end.
  if (call.reply.raw.destroyed) return Promise.reject(new CodedError('request_timeout', 'the body did not arrive'))
  return new Promise((resolve, reject) => {
    // Who does not say how much it is may send as much as is allowed.
    const expected = Number.isNaN(announced) ? bytesMax : announced
    if (expected > SMALL_BYTES) call.context.bodies.take(call.reply, expected)
    const chunks: Buffer[] = []
    let bytes = 0
    const end = () => {
      // A request that came whole closes as well: that is no error, and an error costs its stack.
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

/** Without parameters; null where the text is not in UTF-8. Throws CodedError where the body is compressed. */
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
