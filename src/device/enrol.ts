/** Enrolment and renewal, over HTTP: a device becomes one of a fleet, and later gets another token for the same identity. */
import { DeviceTimes } from '../../protocol/limits.js'
import { DeviceError } from './errors.js'
import type { Identity } from './state/state.js'

/** Path on the core where devices enrol. */
export const ENROL_PATH = '/device/v1/enrol'

/** Beside it, where tokens are renewed. */
export const RENEW_PATH = '/device/v1/renew'

const ANSWER_BYTES_MAX = 64 * 1024

export interface EnrolOptions {
  /** The core: `https://core.example`, or with the whole path. */
  url: string
  /** Of the fleet: a secret. */
  enrolmentKey: string
  /** What the device calls itself, for the operator. */
  name?: string
  timeoutMs?: number
  /** Chance in [0, 1): draws the time of the renewal; without it the client draws when it starts. */
  random?: () => number
}

/** Rejects with DeviceError: `enrol_refused` (serverCode says why) or `enrol_unreachable` (try again). */
export async function enrol({
  url,
  enrolmentKey,
  name,
  timeoutMs = DeviceTimes.ENROL_TIMEOUT.value,
  random,
}: EnrolOptions): Promise<Identity> {
  const body = JSON.stringify({ enrolmentKey, ...(name ? { name } : {}) })
  const answer = await post(enrolUrl(url), { 'content-type': 'application/json' }, body, timeoutMs)
  if (answer.status !== 200 && answer.status !== 201) throw refusal('enrol', answer)
  return identityOf(answer.body, url, random)
}

export interface RenewOptions {
  identity: Identity
  /** As given at enrolment. */
  core: string
  random: () => number
  timeoutMs?: number
}

/**
 * The same identity with another token. Rejects with DeviceError: `renew_refused` (the identity is over; serverCode says why)
 * or `renew_unreachable` (try again). An answer that is lost costs nothing: the older token is good for another renewal.
 */
export async function renew({
  identity,
  core,
  random,
  timeoutMs = DeviceTimes.ENROL_TIMEOUT.value,
}: RenewOptions): Promise<Identity> {
  const url = enrolUrl(core).replace(/\/enrol(?=[?#]|$)/, '/renew')
  const answer = await post(url, { authorization: `Bearer ${identity.token}` }, null, timeoutMs)
  if (answer.status !== 200) throw refusal('renew', answer)
  const renewed = identityOf(answer.body, core, random)
  if (renewed.deviceId !== identity.deviceId)
    throw new DeviceError('renew_unreachable', 'the answer is for another device')
  return renewed
}

function identityOf(
  { deviceId, token, expiresAt, renewFrom, transportUrl }: Body,
  core: string,
  random: (() => number) | undefined,
): Identity {
  if (typeof deviceId !== 'string' || typeof token !== 'string' || deviceId === '' || token === '') {
    throw new DeviceError('enrol_unreachable', 'the answer has no deviceId and token')
  }
  const expiresAtMs = timeOf(expiresAt)
  const fromMs = timeOf(renewFrom)
  return {
    ...{ deviceId, token, expiresAtMs },
    url: typeof transportUrl === 'string' ? transportUrl : '',
    core,
    ...(fromMs > 0 && random ? { renewAtMs: fromMs + Math.floor(random() * Math.max(0, expiresAtMs - fromMs)) } : {}),
  }
}

/** 0: not said. */
function timeOf(text: unknown): number {
  const ms = typeof text === 'string' ? Date.parse(text) : Number.NaN
  return Number.isFinite(ms) ? ms : 0
}

function enrolUrl(url: string): string {
  if (!URL.canParse(url)) throw new DeviceError('enrol_unreachable', `${url} is no URL`)
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
  timeoutMs: number,
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

/** What nobody but the operator, or another version of this program, can change. */
const TEMPORARY = new Set([408, 429])

function refusal(asked: 'enrol' | 'renew', { status, body, retryAfterMs }: Answer): DeviceError {
  const { code, message } = typeof body.error === 'object' && body.error !== null ? (body.error as Body) : {}
  const serverCode = typeof code === 'string' ? code : `http_${status}`
  const text = `${serverCode}: ${typeof message === 'string' ? message : `HTTP ${status}`}`
  if (asked === 'enrol') {
    const code = status >= 500 ? 'enrol_unreachable' : 'enrol_refused'
    return new DeviceError(code, text, { serverCode, retryAfterMs })
  }
  const isFinal = status >= 400 && status < 500 && !TEMPORARY.has(status) && status !== 404
  return new DeviceError(isFinal ? 'renew_refused' : 'renew_unreachable', text, { serverCode, retryAfterMs })
}

/** fetch says only "fetch failed"; its cause knows. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message || error.cause.name : error.message
}
