/** The JetStream API on the wire: maps its errors to BrokerError and reads its answers. */
import { BrokerError, type BrokerErrorCode } from '../broker.js'

/** The `err_code` values that this code tells apart. Every other one becomes `unavailable`, with the server's text. */
const ErrCode = {
  RESOURCES: 10023, //        insufficient resources
  MEMORY: 10028, //           memory of JetStream exceeded
  STORAGE: 10047, //          storage of JetStream exceeded
  NO_CONSUMER: 10014, //      consumer not found
  NO_MESSAGE: 10037, //       no message found
  WRONG_LAST_SEQUENCE: 10071,
  STORE_FAILED: 10077, //     maximum bytes or messages exceeded, or an error of the disk
} as const

/** JetStream measures time in nanoseconds. */
export const nanos = (ms: number) => ms * 1_000_000

export interface ApiError {
  code: number
  err_code?: number
  description?: string
}

const FULL = new Set<number>([ErrCode.RESOURCES, ErrCode.MEMORY, ErrCode.STORAGE, ErrCode.STORE_FAILED])

/** @param context the subject or API call, as the beginning of the message. */
export function brokerErrorOf(error: ApiError, context: string): BrokerError {
  const text = error.description ?? `code ${error.code}`
  if (error.err_code === ErrCode.WRONG_LAST_SEQUENCE) {
    // The server gives the actual sequence only in its text: "wrong last sequence: 12".
    const last = Number.parseInt(text.slice(text.lastIndexOf(':') + 1), 10)
    return new BrokerError('wrong_last_sequence', `${context}: ${text}`, Number.isNaN(last) ? 0 : last)
  }
  const code: BrokerErrorCode = FULL.has(error.err_code ?? 0) ? 'full' : 'unavailable'
  return new BrokerError(code, `${context}: ${text}`)
}

/** True if the API says that there is no such message. A missing stream has another code. */
export const isNoMessage = (error: ApiError): boolean => error.err_code === ErrCode.NO_MESSAGE

export const isNoConsumer = (error: ApiError): boolean => error.err_code === ErrCode.NO_CONSUMER

/** Parses an answer of the API. Throws BrokerError if it contains an error, or returns null if `allow` accepts the error. */
export function parseAnswer<T extends object>(
  body: Uint8Array,
  context: string,
  allow?: (error: ApiError) => boolean,
): T | null {
  const answer = JSON.parse(textOf(body)) as T & { error?: ApiError }
  if (!answer.error) return answer
  if (allow?.(answer.error)) return null
  throw brokerErrorOf(answer.error, context)
}

/** The sequence in a PubAck. It reads the number without JSON.parse, because this runs once for each append. */
export function parsePubAck(body: Uint8Array, context: string): number {
  const text = textOf(body)
  const at = text.indexOf('"seq":')
  if (at < 0 || text.startsWith('{"error"')) {
    const { error } = JSON.parse(text) as { error?: ApiError }
    throw brokerErrorOf(error ?? { code: 500, description: `not an acknowledgement: ${text.slice(0, 80)}` }, context)
  }
  return Number.parseInt(text.slice(at + 6), 10)
}

/** The fields in the reply subject of a delivered message: `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.…`. */
export interface DeliveryInfo {
  deliveryCount: number
  sequence: number
  /** Position of this delivery among all deliveries of the consumer. */
  consumerSequence: number
  storedAtMs: number
  /** Matching records that the consumer has still to deliver. */
  pending: number
}

export function parseAckSubject(reply: string): DeliveryInfo {
  const tokens = reply.split('.')
  // The subject has nine tokens, or twelve with a domain, an account hash and a random last token.
  const first = tokens.length > 9 ? 6 : 4
  const number = (index: number) => Number(tokens[first + index])
  return {
    deliveryCount: number(0),
    sequence: number(1),
    consumerSequence: number(2),
    storedAtMs: Math.floor(number(3) / 1e6),
    pending: number(4),
  }
}

export const textOf = (body: Uint8Array): string =>
  Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')

export const EMPTY = new Uint8Array(0)
