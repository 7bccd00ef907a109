/** Who may open a connection: decided before the upgrade, from counts alone. */

export interface AdmissionLimits {
  connectionsMax: number
  connectionsPerAddressMax: number
  handshakesPerSecondMax: number
}

/** Retry-After of a refusal that passes within seconds. */
const SOON_SECONDS = 2
/** Retry-After where this worker is full. */
const LATER_SECONDS = 5
/** Retry-After where this worker leaves: others of the port, or of the load balancer, take the device at once. */
const ELSEWHERE_SECONDS = 1

export class Admission {
  private readonly byAddress = new Map<string, number>()
  private connections = 0
  /** Descriptors in use beyond the upgraded connections: idle TCP connections above all. */
  private otherDescriptors = 0
  private handshakes = 0
  private handshakesTick = 0
  private draining = false

  constructor(private readonly limits: AdmissionLimits) {}

  /** Null: come in. Else the Retry-After in seconds. */
  admit(address: string, tick: number): number | null {
    if (this.draining) return ELSEWHERE_SECONDS
    if (this.connections + this.otherDescriptors >= this.limits.connectionsMax) return LATER_SECONDS
    if ((this.byAddress.get(address) ?? 0) >= this.limits.connectionsPerAddressMax) return LATER_SECONDS
    if (tick !== this.handshakesTick) {
      this.handshakesTick = tick
      this.handshakes = 0
    }
    return ++this.handshakes > this.limits.handshakesPerSecondMax ? SOON_SECONDS : null
  }

  opened(address: string): void {
    this.connections++
    this.byAddress.set(address, (this.byAddress.get(address) ?? 0) + 1)
  }

  closed(address: string): void {
    this.connections--
    const left = (this.byAddress.get(address) ?? 1) - 1
    if (left > 0) this.byAddress.set(address, left)
    else this.byAddress.delete(address)
  }

  /** `descriptors`: all that the process has open now. */
  measured(descriptors: number): void {
    this.otherDescriptors = Math.max(0, descriptors - this.connections)
  }

  drain(): void {
    this.draining = true
  }

  get open(): number {
    return this.connections
  }
}
