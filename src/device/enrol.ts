/** Enrolment: a device becomes one of a fleet, over HTTP, once in its life. */
import { DeviceTimes } from '../../protocol/limits.js'
import { DeviceError } from './errors.js'
import type { Identity } from './state/state.js'

/** Path on the core where devices enrol. */
export const ENROL_PATH = '/device/v1/enrol'

const ANSWER_BYTES_MAX = 64 * 1024

export interface EnrolOptions {
  /** The core: `https://core.example`, or with the whole path. */
  url: string
  /** Of the fleet: a secret. */
  enrolmentKey: string
  /** What the device calls itself, for the operator. */
  name?: string
  timeoutMs?: number
}

/** Rejects with DeviceError: `enrol_refused` (serverCode says why) or `enrol_unreachable` (try again). */
export async function enrol({
  url,
  enrolmentKey,
  name,
  timeoutMs = DeviceTimes.ENROL_TIMEOUT.value,
}: EnrolOptions): Promise<Identity> {
  const { status, body } = await post(enrolUrl(url), { enrolmentKey, ...(name ? { name } : {}) }, timeoutMs)
  if (status !== 200 && status !== 201) throw refusal(status, body)
  const { deviceId, token, expiresAt, transportUrl } = body
  if (typeof deviceId !== 'string' || typeof token !== 'string' || deviceId === '' || token === '') {
    throw new DeviceError('enrol_unreachable', 'the answer has no deviceId and token')
  }
  const expiresAtMs = typeof expiresAt === 'string' ? Date.parse(expiresAt) : Number.NaN
  return {
    deviceId,
    token,
    expiresAtMs: Number.isFinite(expiresAtMs) ? expiresAtMs : 0,
    url: typeof transportUrl === 'string' ? transportUrl : '',
  }
}

function enrolUrl(url: string): string {
  if (!URL.canParse(url)) throw new DeviceError('enrol_unreachable', `${url} is no URL`)
  const parsed = new URL(url)
  if (parsed.pathname === '/') parsed.pathname = ENROL_PATH
  return parsed.href
}

async function post(url: string, value: object, timeoutMs: number): Promise<{ status: number; body: Body }> {
  let status: number
  let text: string
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(value),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    })
    status = response.status
    text = await readBounded(response)
  } catch (error) {
    if (error instanceof DeviceError) throw error
    throw new DeviceError('enrol_unreachable', `${url}: ${reasonOf(error)}`, { cause: error })
  }
  return { status, body: parse(text) }
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

function refusal(status: number, body: Body): DeviceError {
  const { code, message } = typeof body.error === 'object' && body.error !== null ? (body.error as Body) : {}
  const serverCode = typeof code === 'string' ? code : `http_${status}`
  const text = `${serverCode}: ${typeof message === 'string' ? message : `HTTP ${status}`}`
  return new DeviceError(status >= 500 ? 'enrol_unreachable' : 'enrol_refused', text, { serverCode })
}

/** fetch says only "fetch failed"; its cause knows. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message || error.cause.name : error.message
}
