/**
 * Who may open a connection: decided before the upgrade, from counts alone, so that a refusal costs next to nothing. What is
 * refused comes back at its place in the admissionQueue; what was let in has been paid for, and is served within a moment.
 */

import type { RefusalReason } from '../metrics.js'
import { AdmissionQueue } from './admission-queue.js'
import type { Throughput } from './throughput.js'

export interface AdmissionLimits {
  connectionsMax: number
  connectionsPerAddressMax: number
  handshakesPerSecondMax: number
  handshakesInFlightMax: number
  loopLagMsMax: number
}

/** How the worker stands. */
export interface Load {
  /** How late it is with its work. */
  lagMs(): number
  /** Connections that may say HELLO any moment. */
  greeting(): number
  /** HELLOs without their WELCOME. */
  handshaking(): number
}

export interface Refusal {
  reason: RefusalReason
  /** Retry-After of the 503. Devices add up to a second of their own. */
  retryAfterSeconds: number
}

/** This worker leaves: others of the port, or of the load balancer, take the device at once. */
const DRAINING: Refusal = { reason: 'draining', retryAfterSeconds: 1 }
/** The worker has no room, though another one of the port may: the kernel spreads unevenly. */
const FULL: Refusal = { reason: 'full', retryAfterSeconds: 2 }
const ADDRESS: Refusal = { reason: 'address', retryAfterSeconds: 5 }

/** Nobody is let in while more are on their way than are served in so long; far devices take much of it to say HELLO. */
const ARRIVING_MS = 1_000
/** However slow: fewer would not keep a worker busy over the way to the store and back. */
const ARRIVING_MIN = 32

export class Admission {
  private readonly byAddress = new Map<string, number>()
  private connections = 0
  /** Descriptors in use beyond the upgraded connections: idle TCP connections above all. */
  private otherDescriptors = 0
  private handshakes = 0
  private handshakesTick = 0
  private draining = false
  private readonly admissionQueue = new AdmissionQueue()

  constructor(
    private readonly limits: AdmissionLimits,
    private readonly load: Load,
    private readonly throughput: Throughput,
  ) {}

  /** Null: come in. */
  admit(address: string, { ms, tick }: { ms: number; tick: number }): Refusal | null {
    const { connectionsMax, connectionsPerAddressMax, handshakesPerSecondMax, loopLagMsMax } = this.limits
    if (this.draining) return DRAINING
    if (this.connections + this.otherDescriptors >= connectionsMax) return FULL
    if ((this.byAddress.get(address) ?? 0) >= connectionsPerAddressMax) return ADDRESS
    if (this.isCrowded()) return this.later('crowd', ms)
    // Whoever is here already comes first: their acknowledgements wait behind every handshake.
    if (this.load.lagMs() > loopLagMsMax) return this.later('lag', ms)
    if (tick !== this.handshakesTick) {
      this.handshakesTick = tick
      this.handshakes = 0
    }
    return ++this.handshakes > handshakesPerSecondMax ? this.later('rate', ms) : null
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

  private isCrowded(): boolean {
    const { load, limits, throughput } = this
    const most = Math.max(ARRIVING_MIN, (throughput.perSecond * ARRIVING_MS) / 1000)
    return load.handshaking() + load.greeting() >= Math.min(limits.handshakesInFlightMax, most)
  }

  private later(reason: RefusalReason, ms: number): Refusal {
    return { reason, retryAfterSeconds: this.admissionQueue.place(ms, this.throughput.soonPerSecond) }
  }
}
