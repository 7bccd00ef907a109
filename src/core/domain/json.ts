/** Parses JSON from callers. */
import { randomUUID } from 'node:crypto'
import { CodedError } from '../../../protocol/errors.js'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Precedes the digits of a great integer. No sender can guess it. */
const MARK = `${randomUUID()}:`
const DIGITS_MIN = 16

/**
 * Like JSON.parse, but an integer beyond 2^53-1 becomes a bigint, because a number would be rounded. A number with a
 * fraction or an exponent stays a number. Throws CodedError `malformed_json`, also for an empty body. The error does not
 * quote the text, which may have secrets.
 */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    const text = utf8.decode(bytes)
    const marked = /[0-9]{16}/.test(text) ? markGreatIntegers(text) : null
    return marked === null ? JSON.parse(text) : JSON.parse(marked, readMark)
  } catch {
    throw new CodedError('malformed_json')
  }
}

function readMark(key: string, value: unknown): unknown {
  if (key.startsWith(MARK)) throw new SyntaxError('a number as a key')
  return typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value
}

/** The text with each integer beyond 2^53-1 as a marked string; null if there is none. */
function markGreatIntegers(text: string): string | null {
  const parts: string[] = []
  let copied = 0
  for (let at = 0; at < text.length; ) {
    if (text[at] === '"') {
      at = endOfString(text, at)
      continue
    }
    const end = endOfNumber(text, at)
    const number = text.slice(at, end)
    if (number.length >= DIGITS_MIN && isGreatInteger(number)) {
      parts.push(text.slice(copied, at), `"${MARK}${number}"`)
      copied = end
    }
    at = Math.max(end, at + 1)
  }
  return parts.length > 0 ? parts.join('') + text.slice(copied) : null
}

function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '"') return at + 1
  }
  return text.length
}

/** The same as `from` where no number begins. */
function endOfNumber(text: string, from: number): number {
  let at = from
  while (at < text.length && '+-.0123456789eE'.includes(text[at] as string)) at++
  return at
}

const isGreatInteger = (number: string) => /^-?[1-9][0-9]+$/.test(number) && !Number.isSafeInteger(Number(number))
