/** Sends pushes, and logs each attempt before its request and after its answer. */
import { randomBytes } from 'node:crypto'
import { INGRESS_STREAM, ingressSubject } from '../../../protocol/subjects.js'
import type { Broker } from '../../../src/nats/broker.js'
import type { AppendLog } from '../log.js'
import { type Answered, type AttemptKind, type AttemptRecord, hashOf } from '../records.js'

export interface Push {
  kind: AttemptKind
  project: string
  /** The registrationIds, or the name of the group. */
  targets: string[]
  /** The numbers of the devices that must get the push. */
  devices: number[]
  ttlSeconds: number
  collapseKey?: string
  producer?: string
  /** Length of the text; default 60. */
  characters?: number
  /** Delay of a scheduled push. */
  laterMs?: number
  /** Sent with an idempotency key. */
  isKeyed?: boolean
}

export interface SenderOptions {
  /** The URLs of all cores; requests go to them in turn. */
  httpUrls: readonly string[]
  tokens: Readonly<Record<string, string>>
  log: AppendLog<AttemptRecord>
  publisher: Broker
  firstAttempt: number
}

export interface Sent {
  attempt: number
  answer: Answered['answer']
  id: string | null
  /** The text of a refusal; empty if it was accepted. */
  detail: string
}

type Answer = Pick<Answered, 'answer' | 'id' | 'detail'>

const TIMEOUT_MS = 8_000
const INGRESS_ATTEMPTS_MAX = 3

export class Sender {
  readonly #underWay = new Set<Promise<unknown>>()
  #next: number
  #calls = 0

  constructor(private readonly options: SenderOptions) {
    this.#next = options.firstAttempt
  }

  get underWay(): number {
    return this.#underWay.size
  }

  /** Never rejects: an error makes the answer `indeterminate`. `onNumber` is called before the request is sent. */
  send(push: Push, onNumber: (attempt: number) => void = () => undefined): Promise<Sent> {
    const attempt = this.#next++
    onNumber(attempt)
    const sending = this.#send(attempt, push)
    this.#underWay.add(sending)
    void sending.finally(() => this.#underWay.delete(sending))
    return sending
  }

  /** Resolves when no attempt waits for its answer. */
  async awaitAnswers(): Promise<void> {
    await Promise.all(this.#underWay)
  }

  /** Sends the DELETE. Its answer is not logged, because the oracle judges the final event of the message. */
  async cancel(project: string, attempt: number, id: string): Promise<void> {
    this.options.log.write({ type: 'cancelled', at: Date.now(), attempt })
    try {
      const response = await this.#call(project, `/messages/${id}`, { method: 'DELETE' })
      await response.arrayBuffer()
    } catch (error) {
      if (!isNetwork(error)) throw error
    }
  }

  async #send(attempt: number, push: Push): Promise<Sent> {
    const { kind, project, targets, devices, ttlSeconds, collapseKey = '', producer = null, laterMs, isKeyed } = push
    const title = `#${attempt}`
    const message = randomBytes(Math.ceil((push.characters ?? 60) / 2)).toString('hex')
    this.options.log.write({
      ...{ type: 'begun', at: Date.now(), attempt, kind, project, devices, ttlMs: ttlSeconds * 1000 },
      ...{ collapses: collapseKey !== '', hash: hashOf(title, message), producer },
    })
    const body = {
      type: kind === 'ingress' ? 'device' : kind,
      target: kind === 'devices' ? targets : targets[0],
      ttl: `${ttlSeconds}s`,
      ...(collapseKey && { collapseKey }),
      ...(laterMs !== undefined && { notBefore: new Date(Date.now() + laterMs).toISOString() }),
      notification: { title, message, data: { attempt } },
    }
    const answer = await (kind === 'ingress'
      ? this.#publish(attempt, project, body)
      : this.#post(project, body, isKeyed ? `attempt-${attempt}` : ''))
    this.options.log.write({ type: 'answered', at: Date.now(), attempt, ...answer })
    return { attempt, answer: answer.answer, id: answer.id ?? null, detail: answer.detail ?? '' }
  }

  async #post(project: string, body: object, key: string): Promise<Answer> {
    try {
      const headers = key ? { 'idempotency-key': key } : {}
      const response = await this.#call(project, '/messages', { method: 'POST', body: JSON.stringify(body) }, headers)
      const text = await response.text()
      if (response.status >= 400) {
        const answer = response.status < 500 ? 'rejected' : 'indeterminate'
        return { answer, detail: `${response.status} ${text.slice(0, 200)}` }
      }
      const { id } = JSON.parse(text) as { id?: unknown }
      if (!response.ok || typeof id !== 'string') return { answer: 'indeterminate', detail: `${response.status}` }
      return { answer: 'accepted', id }
    } catch (error) {
      // The answer is missing or incomplete. An error of this code would show as a run without accepted pushes.
      return { answer: 'indeterminate', detail: String(error) }
    }
  }

  /** Publishes under one key until the store confirms, and once more after that, which must not send a second push. */
  async #publish(attempt: number, project: string, body: object): Promise<Answer> {
    const bytes = new TextEncoder().encode(JSON.stringify(body))
    const append = () =>
      this.options.publisher.log(INGRESS_STREAM).append(ingressSubject(project), bytes, {
        headers: { 'Content-Type': 'application/json' },
        messageId: `attempt-${attempt}`,
      })
    let detail = ''
    for (let tried = 0; tried < INGRESS_ATTEMPTS_MAX; tried++) {
      try {
        await append()
        await append().catch(() => undefined)
        return { answer: 'accepted' }
      } catch (error) {
        detail = String(error)
      }
    }
    return { answer: 'indeterminate', detail }
  }

  #call(project: string, path: string, init: RequestInit, headers: Record<string, string> = {}): Promise<Response> {
    const { httpUrls, tokens } = this.options
    const httpUrl = httpUrls[this.#calls++ % httpUrls.length]
    return fetch(`${httpUrl}/push/public/api/v1/projects/${project}${path}`, {
      ...init,
      headers: {
        authorization: `Bearer ${tokens[project] ?? ''}`,
        ...(init.body ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  }
}

/** True for the errors by which fetch reports that no answer came. */
const isNetwork = (error: unknown) =>
  error instanceof TypeError || (error instanceof DOMException && error.name === 'TimeoutError')
