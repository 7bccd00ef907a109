/** The JetStream API as the server speaks it: error bodies to BrokerError, and small readers of its answers. */
import { BrokerError, type BrokerErrorCode } from '../broker.js'

/** `err_code` of the answers that mean something to us; everything else is `unavailable` with the server's words. */
const ErrCode = {
  RESOURCES: 10023, //        insufficient resources
  MEMORY: 10028, //           memory of JetStream exceeded
  STORAGE: 10047, //          storage of JetStream exceeded
  NO_CONSUMER: 10014, //      consumer not found
  NO_MESSAGE: 10037, //       no message found
  WRONG_LAST_SEQUENCE: 10071,
  STORE_FAILED: 10077, //     maximum bytes or messages exceeded, or the disk's own error
} as const

/** JetStream counts time in nanoseconds. */
export const nanos = (ms: number) => ms * 1_000_000

export interface ApiError {
  code: number
  err_code?: number
  description?: string
}

const FULL = new Set<number>([ErrCode.RESOURCES, ErrCode.MEMORY, ErrCode.STORAGE, ErrCode.STORE_FAILED])

export function brokerErrorOf(error: ApiError, what: string): BrokerError {
  const words = error.description ?? `code ${error.code}`
  if (error.err_code === ErrCode.WRONG_LAST_SEQUENCE) {
    // The server names the true one only in its text: "wrong last sequence: 12".
    const last = Number.parseInt(words.slice(words.lastIndexOf(':') + 1), 10)
    return new BrokerError('wrong_last_sequence', `${what}: ${words}`, Number.isNaN(last) ? 0 : last)
  }
  const code: BrokerErrorCode = FULL.has(error.err_code ?? 0) ? 'full' : 'unavailable'
  return new BrokerError(code, `${what}: ${words}`)
}

/** True for the API's way to say that there is no such message (or stream, by its own code). */
export const isNoMessage = (error: ApiError): boolean => error.err_code === ErrCode.NO_MESSAGE

export const isNoConsumer = (error: ApiError): boolean => error.err_code === ErrCode.NO_CONSUMER

/** An API answer, parsed. Throws BrokerError where it carries an error, unless `allow` takes that error. */
export function parseAnswer<T extends object>(
  body: Uint8Array,
  what: string,
  allow?: (error: ApiError) => boolean,
): T | null {
  const answer = JSON.parse(textOf(body)) as T & { error?: ApiError }
  if (!answer.error) return answer
  if (allow?.(answer.error)) return null
  throw brokerErrorOf(answer.error, what)
}

/** The sequence of a PubAck. Reads the number by hand: this runs once for each append. */
export function parsePubAck(body: Uint8Array, what: string): number {
  const text = textOf(body)
  const at = text.indexOf('"seq":')
  if (at < 0 || text.startsWith('{"error"')) {
    const { error } = JSON.parse(text) as { error?: ApiError }
    throw brokerErrorOf(error ?? { code: 500, description: `not an acknowledgement: ${text.slice(0, 80)}` }, what)
  }
  return Number.parseInt(text.slice(at + 6), 10)
}

/** What the reply subject of a delivered message tells: `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.…`. */
export interface DeliveryInfo {
  deliveryCount: number
  sequence: number
  /** Counts the deliveries of this consumer. */
  consumerSequence: number
  storedAtMs: number
  /** Matching records that the consumer has not delivered yet. */
  pending: number
}

export function parseAckSubject(reply: string): DeliveryInfo {
  const tokens = reply.split('.')
  // Nine tokens, or twelve with a domain, an account hash and a random tail.
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
