/**
 * The registrations that this core knows to have ended, so that accept refuses sends to them without a read. Cores tell each
 * other by notices on the bus, at most once each: what a core has not heard of, or has forgotten, ends at the device's record
 * (the router, or the worker that has the device), as `failed` with the reason `ended`, and is known from then on.
 */
import { decodeEndedNotice, encodeEndedNotice } from '../../../protocol/envelope.js'
import { ENDED_SUBJECT } from '../../../protocol/subjects.js'
import type { Bus, Subscription } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'

/** Most that are remembered, newest last: some 10 MB. */
const KNOWN_MAX = 100_000

export class EndedRegistrations {
  private readonly known = new Set<string>()
  private subscription: Subscription | null = null

  constructor(
    private readonly bus: Bus,
    private readonly log: Logger,
    private readonly knownMax = KNOWN_MAX,
  ) {}

  start(): void {
    this.subscription = this.bus.subscribe(ENDED_SUBJECT, ({ body }) => {
      try {
        const { device, registration } = decodeEndedNotice(body)
        this.remember(device, registration)
      } catch (error) {
        this.log.warn({ error }, 'a notice of an ended registration can not be read')
      }
    })
  }

  stop(): void {
    this.subscription?.unsubscribe()
    this.subscription = null
  }

  has(device: string, registration: number): boolean {
    return this.known.has(keyOf(device, registration))
  }

  /** It has ended: known here at once, and elsewhere soon. */
  add(device: string, registration: number): void {
    this.remember(device, registration)
    tellEnded(this.bus, device, registration)
  }

  private remember(device: string, registration: number): void {
    const key = keyOf(device, registration)
    this.known.delete(key)
    this.known.add(key)
    if (this.known.size <= this.knownMax) return
    for (const oldest of this.known) {
      this.known.delete(oldest)
      return
    }
  }
}

/** Tells all cores; lost where the connection is. */
export function tellEnded(bus: Bus, device: string, registration: number): void {
  bus.publish(ENDED_SUBJECT, encodeEndedNotice({ device, registration }))
}

const keyOf = (device: string, registration: number) => `${device}.${registration}`
