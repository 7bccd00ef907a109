/** Measures the recovery of the service: sends pushes to a few connected devices until each got one. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultDevice } from './device.js'
import type { Push, Sender } from './sender.js'

export interface Recovery {
  /** Time from the fault until each probed device got a push that was sent after it; null after the time-out. */
  allMs: number | null
}

const INTERVAL_MS = 200
const UNANSWERED_MAX = 16
const TTL_SECONDS = 7_200

export class Probes {
  /** For each attempt under way, the function to call when its device has it. */
  readonly #waiting = new Map<number, () => void>()

  constructor(
    private readonly devices: ReadonlyMap<number, FaultDevice>,
    private readonly projects: readonly string[],
    private readonly sender: Sender,
  ) {}

  recordShown(attempt: number): void {
    this.#waiting.get(attempt)?.()
    this.#waiting.delete(attempt)
  }

  async measureRecovery(fromMs: number, timeoutMs: number): Promise<Recovery> {
    const waiting = new Set(this.devices.keys())
    let lastMs = fromMs
    while (waiting.size > 0 && Date.now() - fromMs < timeoutMs) {
      for (const device of waiting) {
        if (this.sender.underWay > UNANSWERED_MAX * this.devices.size) break
        const targets = [this.devices.get(device)?.registrationId ?? '']
        const project = this.projects[device] ?? ''
        const push: Push = { kind: 'device', project, targets, devices: [device], ttlSeconds: TTL_SECONDS }
        void this.sender.send(push, (attempt) =>
          this.#waiting.set(attempt, () => {
            if (waiting.delete(device)) lastMs = Date.now()
          }),
        )
      }
      await sleep(INTERVAL_MS)
    }
    return { allMs: waiting.size > 0 ? null : lastMs - fromMs }
  }
}
