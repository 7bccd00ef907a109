/** Enrols a device in a fleet and renews the token of its identity, both over HTTP. PROTOCOL.md, "Enrolment". */
import { DeviceTimes } from '../../protocol/limits.js'
import { DeviceError } from './errors.js'
import type { Identity } from './state/state.js'

export const ENROL_PATH = '/device/v1/enrol'
export const RENEW_PATH = '/device/v1/renew'

const ANSWER_BYTES_MAX = 64 * 1024

/** How requests are sent; default: the fetch of this platform. */
export type Fetch = typeof fetch

export interface EnrolOptions {
  /** Address of the core, such as `https://core.example`, with or without the path. */
  url: string
  /** Secret of the fleet. */
  enrolmentKey: string
  /** Name of the device that operators see. */
  name?: string
  timeoutMs?: number
  /** Random number in [0, 1), which determines the time of the renewal; default: the client draws that time later. */
  random?: () => number
  fetch?: Fetch
}

/** Rejects with DeviceError `enrol_refused` (`serverCode` has the reason) or `enrol_unreachable` (temporary). */
export async function enrol({
  url,
  enrolmentKey,
  name,
  timeoutMs = DeviceTimes.ENROL_TIMEOUT.value,
  random,
  fetch,
}: EnrolOptions): Promise<Identity> {
  const body = JSON.stringify({ enrolmentKey, ...(name ? { name } : {}) })
  const answer = await post(enrolUrl(url), { 'content-type': 'application/json' }, body, { timeoutMs, fetch })
  if (answer.status !== 200 && answer.status !== 201) throw refusal('enrol', answer)
  return readIdentity(answer.body, url, random)
}

export interface RenewOptions {
  identity: Identity
  /** Address of the core, as given at enrolment. */
  core: string
  random: () => number
  timeoutMs?: number
  fetch?: Fetch
}

/**
 * Returns the same identity with a new token. Rejects with DeviceError `renew_refused` (the identity is over; `serverCode`
 * has the reason) or `renew_unreachable` (temporary). A lost answer does no harm: the older token can be renewed again.
 */
export async function renew({
  identity,
  core,
  random,
  timeoutMs = DeviceTimes.ENROL_TIMEOUT.value,
  fetch,
}: RenewOptions): Promise<Identity> {
  const url = enrolUrl(core).replace(/\/enrol(?=[?#]|$)/, '/renew')
  const answer = await post(url, { authorization: `Bearer ${identity.token}` }, null, { timeoutMs, fetch })
  if (answer.status !== 200) throw refusal('renew', answer)
  const renewed = readIdentity(answer.body, core, random)
  if (renewed.deviceId !== identity.deviceId)
    throw new DeviceError('renew_unreachable', 'the answer is for another device')
  return renewed
}

function readIdentity(
  { deviceId, token, expiresAt, renewFrom, transportUrl }: Body,
  core: string,
  random: (() => number) | undefined,
): Identity {
  if (typeof deviceId !== 'string' || typeof token !== 'string' || deviceId === '' || token === '') {
    throw new DeviceError('enrol_unreachable', 'the answer has no deviceId and token')
  }
  const expiresAtMs = parseTime(expiresAt)
  const renewFromMs = parseTime(renewFrom)
  const url = typeof transportUrl === 'string' ? transportUrl : ''
  const identity: Identity = { deviceId, token, expiresAtMs, url, core }
  if (renewFromMs > 0 && random) {
    identity.renewAtMs = renewFromMs + Math.floor(random() * Math.max(0, expiresAtMs - renewFromMs))
  }
  return identity
}

/** Returns Unix milliseconds; 0: the text is absent or is not a time. */
function parseTime(text: unknown): number {
  const ms = typeof text === 'string' ? Date.parse(text) : Number.NaN
  return Number.isFinite(ms) ? ms : 0
}

function enrolUrl(url: string): string {
  if (!URL.canParse(url)) throw new DeviceError('enrol_unreachable', `${url} is not a URL`)
  const parsed = new URL(url)
  if (parsed.pathname === '/') parsed.pathname = ENROL_PATH
  return parsed.href
}

interface Answer {
  status: number
  body: Body
  /** 0: no hint. */
  retryAfterMs: number
}

async function post(
  url: string,
  headers: Record<string, string>,
  content: string | null,
  { timeoutMs, fetch = globalThis.fetch }: { timeoutMs: number; fetch: Fetch | undefined },
): Promise<Answer> {
  let status: number
  let text: string
  let retryAfterMs: number
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers,
      body: content,
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    })
    status = response.status
    retryAfterMs = 1000 * (Number(response.headers.get('retry-after')) || 0)
    text = await readBounded(response)
  } catch (error) {
    if (error instanceof DeviceError) throw error
    throw new DeviceError('enrol_unreachable', `${url}: ${reasonOf(error)}`, { cause: error })
  }
  return { status, body: parse(text), retryAfterMs }
}

type Body = Record<string, unknown>

async function readBounded(response: Response): Promise<string> {
  if (!response.body) return ''
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    length += chunk.length
    if (length > ANSWER_BYTES_MAX) throw new DeviceError('enrol_unreachable', 'the answer is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parse(text: string): Body {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Body
  } catch (cause) {
    throw new DeviceError('enrol_unreachable', 'the answer is not JSON', { cause })
  }
  throw new DeviceError('enrol_unreachable', 'the answer is not an object')
}

/** Statuses of the 4xx range after which a renewal is tried again. 404 comes from a core of a release before renewal. */
const TEMPORARY = new Set([404, 408, 429])

function refusal(asked: 'enrol' | 'renew', { status, body, retryAfterMs }: Answer): DeviceError {
  const { code, message } = typeof body.error === 'object' && body.error !== null ? (body.error as Body) : {}
  const serverCode = typeof code === 'string' ? code : `http_${status}`
  const text = `${serverCode}: ${typeof message === 'string' ? message : `HTTP ${status}`}`
  if (asked === 'enrol') {
    const code = status >= 500 ? 'enrol_unreachable' : 'enrol_refused'
    return new DeviceError(code, text, { serverCode, retryAfterMs })
  }
  const isFinal = status >= 400 && status < 500 && !TEMPORARY.has(status)
  return new DeviceError(isFinal ? 'renew_refused' : 'renew_unreachable', text, { serverCode, retryAfterMs })
}

/** fetch rejects with the message "fetch failed"; the cause of that error has the reason. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message || error.cause.name : error.message
}
