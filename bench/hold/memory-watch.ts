/** Watches the available memory, so that a run ends with a result before the kernel kills a process. */
import { kernelMemory } from '../measure/kernel.js'
import { BenchError } from '../scenario.js'

const PERIOD_MS = 500

export class MemoryWatch {
  lowestBytes = Number.POSITIVE_INFINITY
  readonly #timer: NodeJS.Timeout
  #reject: (error: Error) => void = () => undefined
  /** Rejects when less than the floor is available. */
  readonly emergency: Promise<never>

  constructor(
    private readonly reserveBytes: number,
    private readonly floorBytes: number,
    private readonly readAvailable: () => number = () => kernelMemory().availableBytes,
  ) {
    this.emergency = new Promise((_, reject) => {
      this.#reject = reject
    })
    // The caller races with this promise, and so reports it.
    this.emergency.catch(() => undefined)
    this.#timer = setInterval(() => this.#check(), PERIOD_MS)
    this.#check()
  }

  /** Less than the reserve is available, so no more devices may connect. */
  get isLow(): boolean {
    return this.lowestBytes < this.reserveBytes
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    this.lowestBytes = Math.min(this.lowestBytes, this.readAvailable())
    if (this.lowestBytes < this.floorBytes) {
      this.#reject(new BenchError(`only ${mib(this.lowestBytes)} of memory are available`))
    }
  }
}

export const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB`
