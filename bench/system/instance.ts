/** A transport instance as its admin port shows it: its workers, and rolling restarts. */
import type { InstanceStatus } from '../../src/transport/supervisor/instance-status.js'
import { BenchError } from '../scenario.js'

/** Time-out for an answer, far above the time that a busy machine needs. */
const TIMEOUT_MS = 30_000

export class Instance {
  constructor(private readonly port: number) {}

  status(): Promise<InstanceStatus> {
    return this.#ask('GET', '/status') as Promise<InstanceStatus>
  }

  /** Begins a rolling restart. status() shows its progress. */
  async restart(): Promise<void> {
    await this.#ask('POST', '/restart')
  }

  async #ask(method: string, path: string): Promise<unknown> {
    const answer = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (!answer.ok) throw new BenchError(`the instance answered ${method} ${path} with ${answer.status}`)
    return answer.json()
  }
}
