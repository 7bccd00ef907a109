/**
 * Decides before the upgrade whether a device may open a connection.
 *
 * The room `admission` is the way in: the limits before the upgrade (this file), the connection until its HELLO
 * (greeting.ts), the check of its credential (credentials.ts, ticket.ts, revocations.ts), and the handshake from
 * HELLO to WELCOME (handshake.ts).
 *
 * The decision uses counts alone, so a refusal costs almost nothing. A refused device gets a time at which to return;
 * an admitted device is served within about a second.
 */

import type { RefusalReason } from '../metrics.js'
import { AdmissionQueue } from './admission-queue.js'
import { ReturnRate } from './return-rate.js'
import type { Throughput } from './throughput.js'

export interface AdmissionLimits {
  connectionsMax: number
  connectionsPerAddressMax: number
  handshakesPerSecondMax: number
  handshakesInFlightMax: number
  loopLagMsMax: number
}

/** The present load of the worker. */
export interface Load {
  /** How late its event loop is. */
  lagMs(): number
  /** New connections that are expected to send HELLO at any moment. */
  greeting(): number
  /** Connections between HELLO and WELCOME. */
  handshaking(): number
}

export interface Refusal {
  reason: RefusalReason
  /** Retry-After of the 503. Devices add up to a second of their own. */
  retryAfterSeconds: number
}

/** This worker leaves: another worker of the port, or of the load balancer, accepts the device at once. */
const DRAINING: Refusal = { reason: 'draining', retryAfterSeconds: 1 }
/**
 * Devices that found no room return at a quarter of the rate at which an idle worker serves devices, so that their
 * refusals cost a bounded part of the machine, however many they are. The first ones return soon, because another worker
 * of the port may have room: the kernel spreads connections unevenly.
 */
const NO_ROOM_PART = 1 / 4
/** So many devices may be on their way to each free place: some of them do not come, or are refused once more. */
const COMING_FOR_A_PLACE = 2
/** Room for an address comes only when one of its connections ends. */
const ADDRESS_SECONDS_MIN = 5

/** A worker admits the connections that it can serve in this time. A distant device needs much of it to send HELLO. */
const ARRIVING_MS = 1_000
/** A slow worker admits this many all the same: with fewer it would idle while each handshake waits for the store. */
const ARRIVING_MIN = 32

export class Admission {
  private readonly byAddress = new Map<string, number>()
  private connections = 0
  /** Open file descriptors beside the upgraded connections: mostly TCP connections that were not upgraded. */
  private otherDescriptors = 0
  private handshakes = 0
  private handshakesTick = 0
  private isDraining = false
  /** Devices for which the worker had no time. */
  private readonly crowd = new AdmissionQueue()
  private readonly returns = new ReturnRate()
  /** Devices for which the worker had no room, and those whose address has too many connections. */
  private readonly full = new AdmissionQueue()
  private readonly addresses = new AdmissionQueue()

  constructor(
    private readonly limits: AdmissionLimits,
    private readonly load: Load,
    private readonly throughput: Throughput,
  ) {}

  /** Null: the device may connect. */
  admit(address: string, { ms, tick }: { ms: number; tick: number }): Refusal | null {
    const { connectionsMax, connectionsPerAddressMax, handshakesPerSecondMax, loopLagMsMax } = this.limits
    if (this.isDraining) return DRAINING
    if (this.connections + this.otherDescriptors >= connectionsMax) return this.noRoom('full', this.full, ms)
    if ((this.byAddress.get(address) ?? 0) >= connectionsPerAddressMax) {
      const { reason, retryAfterSeconds } = this.noRoom('address', this.addresses, ms)
      return { reason, retryAfterSeconds: Math.max(ADDRESS_SECONDS_MIN, retryAfterSeconds) }
    }
    if (this.isCrowded()) return this.noTime('crowd', ms)
    // Connected devices come first: their acknowledgements wait behind every handshake.
    if (this.load.lagMs() > loopLagMsMax) return this.noTime('lag', ms)
    if (tick !== this.handshakesTick) {
      this.handshakesTick = tick
      this.handshakes = 0
    }
    if (++this.handshakes > handshakesPerSecondMax) return this.noTime('rate', ms)
    if (!this.crowd.isEmpty(ms)) this.returns.count(ms, true)
    return null
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

  /** @param open the open file descriptors of the process, counted now. */
  descriptorsCounted(open: number): void {
    this.otherDescriptors = Math.max(0, open - this.connections)
  }

  drain(): void {
    this.isDraining = true
  }

  /** The number of open connections. */
  get open(): number {
    return this.connections
  }

  private isCrowded(): boolean {
    const { load, limits, throughput } = this
    const arrivingMax = Math.max(ARRIVING_MIN, (throughput.perSecond * ARRIVING_MS) / 1000)
    return load.handshaking() + load.greeting() >= Math.min(limits.handshakesInFlightMax, arrivingMax)
  }

  private noTime(reason: RefusalReason, ms: number): Refusal {
    const { crowd, returns, limits } = this
    if (crowd.isEmpty(ms)) returns.start(ms, this.throughput.uncrowdedPerSecond)
    returns.count(ms, false)
    // A device behind so many others would find the worker full.
    const room = limits.connectionsMax - this.connections - this.otherDescriptors
    if (crowd.waiting(ms, returns.perSecond) > COMING_FOR_A_PLACE * room) return this.noRoom(reason, this.full, ms)
    return { reason, retryAfterSeconds: crowd.add(ms, returns.perSecond) }
  }

  private noRoom(reason: RefusalReason, queue: AdmissionQueue, ms: number): Refusal {
    return { reason, retryAfterSeconds: queue.add(ms, NO_ROOM_PART * this.throughput.initial) }
  }
}
