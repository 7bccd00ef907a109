/** A client of the HTTP API, as an app server has it. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface SendBody {
  type: 'device' | 'devices' | 'topic' | 'application' | 'user'
  target: string | string[]
  ttl: string
  collapseKey?: string
  notification: { title: string; message: string; data?: Record<string, unknown> }
}

export interface Status {
  trace: { at: string; step: string }[]
  id: string
  status: string
  counts: Record<string, number>
}

export class Api {
  /** Number of messages to single devices that the service accepted. */
  accepted = 0

  constructor(
    private readonly apiUrl: string,
    private readonly project: string,
    private readonly token: string,
  ) {}

  /** Sends a message, and resolves with its id. */
  async send(body: SendBody): Promise<string> {
    const { id } = (await this.call('POST', '/messages', body)) as { id: string }
    if (body.type === 'device') this.accepted++
    return id
  }

  status(id: string): Promise<Status> {
    return this.call('GET', `/messages/${id}`) as Promise<Status>
  }

  async cancel(id: string): Promise<void> {
    await this.call('DELETE', `/messages/${id}`)
  }

  /** The counters of the project: messages to single devices by state. */
  async totals(): Promise<Record<string, number>> {
    return ((await this.call('GET', '/counters')) as { total: Record<string, number> }).total
  }

  private async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.apiUrl}/push/public/api/v1/projects/${this.project}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const answer = (await response.json()) as { error?: { code: string; message: string } }
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }
}

/** Polls a value until it is as expected. Resolves with the last value, also after the time-out. */
export async function settled<T>(
  read: () => Promise<T> | T,
  isDone: (value: T) => boolean,
  timeoutMs: number,
): Promise<T> {
  const until = performance.now() + timeoutMs
  for (;;) {
    const value = await read()
    if (isDone(value) || performance.now() > until) return value
    await sleep(50)
  }
}

/** Runs `work` for each item, at most `width` at a time. Resolves with the results in the order of the items. */
export async function each<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const lane = async () => {
    while (next < items.length) {
      const index = next++
      results[index] = await work(items[index] as T, index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane))
  return results
}
