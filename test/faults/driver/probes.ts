/** When does it work again: pushes to devices that are always there, from the moment of a fault until each got one. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultDevice } from './device.js'
import type { Push, Sender } from './sender.js'

export interface Recovery {
  /** From the fault until the slowest of the probed devices got a push that was sent after it; null: not in time. */
  allMs: number | null
}

const EVERY_MS = 200
const UNANSWERED_MAX = 16
const TTL_SECONDS = 7_200

export class Probes {
  /** Attempts under way, and what to do when their device has them. */
  readonly #waiting = new Map<number, () => void>()

  constructor(
    private readonly devices: ReadonlyMap<number, FaultDevice>,
    private readonly projects: readonly string[],
    private readonly sender: Sender,
  ) {}

  given(attempt: number): void {
    this.#waiting.get(attempt)?.()
    this.#waiting.delete(attempt)
  }

  async recovered(fromMs: number, timeoutMs: number): Promise<Recovery> {
    const owing = new Set(this.devices.keys())
    let lastMs = fromMs
    while (owing.size > 0 && Date.now() - fromMs < timeoutMs) {
      for (const device of owing) {
        if (this.sender.underWay > UNANSWERED_MAX * this.devices.size) break
        const targets = [this.devices.get(device)?.registrationId ?? '']
        const project = this.projects[device] ?? ''
        const push: Push = { kind: 'device', project, targets, devices: [device], ttlSeconds: TTL_SECONDS }
        void this.sender.send(push, (attempt) =>
          this.#waiting.set(attempt, () => {
            if (owing.delete(device)) lastMs = Date.now()
          }),
        )
      }
      await sleep(EVERY_MS)
    }
    return { allMs: owing.size > 0 ? null : lastMs - fromMs }
  }
}
