/** A transport instance through its admin port: who its workers are, and a rolling restart. */
import type { InstanceStatus } from '../../src/transport/supervisor/instance-status.js'
import { BenchError } from '../scenario.js'

/** A busy machine may be slow to answer, never so slow. */
const TIMEOUT_MS = 30_000

export class Instance {
  constructor(private readonly port: number) {}

  status(): Promise<InstanceStatus> {
    return this.#ask('GET', '/status') as Promise<InstanceStatus>
  }

  /** Begins it; status() tells how it goes. */
  async restart(): Promise<void> {
    await this.#ask('POST', '/restart')
  }

  async #ask(method: string, path: string): Promise<unknown> {
    const answer = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (!answer.ok) throw new BenchError(`${method} ${path} of the instance was answered ${answer.status}`)
    return answer.json()
  }
}
