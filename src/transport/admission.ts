/**
 * Who may open a connection: decided before the upgrade, from counts alone, so that a refusal costs next to nothing. What is
 * refused comes back after a hint; what was let in has been paid for.
 */

export interface AdmissionLimits {
  connectionsMax: number
  connectionsPerAddressMax: number
  handshakesPerSecondMax: number
  loopLagMsMax: number
}

/** Why a connection was refused before its upgrade. */
export type RefusalReason = 'draining' | 'full' | 'address' | 'rate' | 'lag' | 'distrusted'

export interface Refusal {
  reason: RefusalReason
  /** Retry-After of the 503. Devices add jitter of their own. */
  retryAfterSeconds: number
}

/** This worker leaves: others of the port, or of the load balancer, take the device at once. */
const DRAINING: Refusal = { reason: 'draining', retryAfterSeconds: 1 }
/** The worker has no room, though another one of the port may: the kernel spreads unevenly. */
const FULL: Refusal = { reason: 'full', retryAfterSeconds: 5 }
const ADDRESS: Refusal = { reason: 'address', retryAfterSeconds: 5 }
/** These pass within seconds. */
const RATE: Refusal = { reason: 'rate', retryAfterSeconds: 2 }
const LAG: Refusal = { reason: 'lag', retryAfterSeconds: 2 }

export class Admission {
  private readonly byAddress = new Map<string, number>()
  private connections = 0
  /** Descriptors in use beyond the upgraded connections: idle TCP connections above all. */
  private otherDescriptors = 0
  private handshakes = 0
  private handshakesTick = 0
  private draining = false

  /** `lagMs`: how late this process is with its work. */
  constructor(
    private readonly limits: AdmissionLimits,
    private readonly lagMs: () => number,
  ) {}

  /** Null: come in. */
  admit(address: string, tick: number): Refusal | null {
    const { connectionsMax, connectionsPerAddressMax, handshakesPerSecondMax, loopLagMsMax } = this.limits
    if (this.draining) return DRAINING
    if (this.connections + this.otherDescriptors >= connectionsMax) return FULL
    if ((this.byAddress.get(address) ?? 0) >= connectionsPerAddressMax) return ADDRESS
    // Whoever is here already comes first: their acknowledgements wait behind every handshake.
    if (this.lagMs() > loopLagMsMax) return LAG
    if (tick !== this.handshakesTick) {
      this.handshakesTick = tick
      this.handshakes = 0
    }
    return ++this.handshakes > handshakesPerSecondMax ? RATE : null
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
