/** Looks at what memory is left, so that a run ends with a result and not with the kernel choosing a victim. */
import { kernelMemory } from '../measure/kernel.js'
import { BenchError } from '../scenario.js'

const PERIOD_MS = 500

export class MemoryWatch {
  lowestBytes = Number.POSITIVE_INFINITY
  readonly #timer: NodeJS.Timeout
  #reject: (error: Error) => void = () => undefined
  /** Rejects when less than the floor is left. */
  readonly emergency: Promise<never>

  constructor(
    private readonly reserveBytes: number,
    private readonly floorBytes: number,
    private readonly readAvailable: () => number = () => kernelMemory().availableBytes,
  ) {
    this.emergency = new Promise((_, reject) => {
      this.#reject = reject
    })
    // Heard by whoever races with it.
    this.emergency.catch(() => undefined)
    this.#timer = setInterval(() => this.#check(), PERIOD_MS)
    this.#check()
  }

  /** No more devices: less than the reserve is left. */
  get isLow(): boolean {
    return this.lowestBytes < this.reserveBytes
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    this.lowestBytes = Math.min(this.lowestBytes, this.readAvailable())
    if (this.lowestBytes < this.floorBytes) {
      this.#reject(new BenchError(`only ${mib(this.lowestBytes)} of memory are left`))
    }
  }
}

export const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB`
