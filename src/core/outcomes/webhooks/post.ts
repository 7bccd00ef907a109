/** Sends a POST to a webhook: without redirects, within a time, with a bounded answer, and only to allowed addresses. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Clock } from '../../../clock.js'
import type { Delivery } from '../../../nats/broker.js'
import { ADDRESS_REFUSED, type AddressGuard, type LookupAll } from './addresses.js'
import { retryAfterOf } from './backoff.js'
import type { WebhookSettings } from './settings.js'

export interface Post {
  url: string
  headers: Record<string, string>
  body: Uint8Array
  /** Aborts the POST. */
  signal: AbortSignal
}

export type PostOutcome =
  | { answered: true; status: number; retryAfterMs: number | null }
  /** `error` is `timeout`, `address_refused`, `secret_unreadable`, or a code of Node such as ECONNREFUSED. It never has text of the receiver. */
  | { answered: false; error: string }

export interface Poster {
  /** Never rejects. */
  post(post: Post): Promise<PostOutcome>
  close(): void
}

export interface PosterOptions {
  clock: Clock
  guard: AddressGuard
  settings: Pick<WebhookSettings, 'timeoutMs' | 'responseBytesMax'>
  /** Default: dns.lookup. */
  resolve?: LookupAll
}

/** Time for which an idle connection stays open for the next POST. */
const IDLE_MS = 4_000
const HEADERS_BYTES_MAX = 16_384

export function createPoster(options: PosterOptions): Poster {
  const agents = { 'http:': new HttpAgent(agentOptions), 'https:': new HttpsAgent(agentOptions) }
  return {
    post: async (post) => {
      const first = await attempt(options, agents, post)
      // The receiver closed the idle connection at the moment of its reuse, which is not a failure.
      return first.onStaleConnection ? (await attempt(options, agents, post)).outcome : first.outcome
    },
    close: () => {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  }
}

const agentOptions = { keepAlive: true, maxFreeSockets: 2, timeout: IDLE_MS, scheduling: 'lifo' } as const

interface Attempt {
  outcome: PostOutcome
  onStaleConnection: boolean
}

function attempt(
  { clock, guard, settings, resolve }: PosterOptions,
  agents: { 'http:': HttpAgent; 'https:': HttpsAgent },
  { url: text, headers, body, signal }: Post,
): Promise<Attempt> {
  const url = new URL(text)
  const failed = (error: string): Attempt => ({ outcome: { answered: false, error }, onStaleConnection: false })
  // Node calls lookup() only for names, so a literal address is checked here.
  if (!guard.mayName(url.hostname)) return Promise.resolve(failed(ADDRESS_REFUSED))
  return new Promise((done) => {
    let answer: PostOutcome | null = null
    const isPlain = url.protocol === 'http:'
    const request = (isPlain ? httpRequest : httpsRequest)(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': String(body.length) },
      agent: isPlain ? agents['http:'] : agents['https:'],
      lookup: guard.lookup(resolve),
      maxHeaderSize: HEADERS_BYTES_MAX,
      signal,
    })
    const cancel = clock.after(settings.timeoutMs, () => request.destroy(coded('timeout')))
    request.on('response', (response) => {
      answer = outcomeOf(response, clock.now())
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > settings.responseBytesMax) request.destroy()
      })
      response.on('error', () => request.destroy())
    })
    let failure: NodeJS.ErrnoException | null = null
    request.on('error', (error) => {
      failure = error
    })
    request.on('close', () => {
      cancel()
      // The status decides, even if the body of the answer did not arrive.
      if (answer) return done({ outcome: answer, onStaleConnection: false })
      const error = failure?.code ?? 'closed'
      done({ ...failed(error), onStaleConnection: request.reusedSocket && error === 'ECONNRESET' })
    })
    request.end(body)
  })
}

function outcomeOf(response: IncomingMessage, nowMs: number): PostOutcome {
  const retryAfterMs = retryAfterOf(response.headers['retry-after'], nowMs)
  return { answered: true, status: response.statusCode ?? 0, retryAfterMs }
}

const coded = (code: string) => Object.assign(new Error(code), { code })

const HEAD = Buffer.from('{"v":1,"events":[')
const COMMA = Buffer.from(',')
const TAIL = Buffer.from(']}')

/** Makes the body of a POST, `{"v": 1, "events": [...]}`. The events are stored as JSON, so they are copied unchanged. */
export function bodyOf(batch: readonly Pick<Delivery, 'body'>[]): Uint8Array {
  const parts: Uint8Array[] = [HEAD]
  for (const [index, { body }] of batch.entries()) parts.push(...(index === 0 ? [body] : [COMMA, body]))
  return Buffer.concat([...parts, TAIL])
}
