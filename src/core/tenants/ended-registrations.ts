/**
 * The registrations that this core knows to have ended. Accept refuses messages to them without a read.
 *
 * Cores inform each other by notices on the bus, which are delivered at most once. A message to a registration that this
 * core does not know to have ended is accepted. The router, or the device's worker, then finds the end in the device's
 * record: the message becomes `failed` with the reason `ended`, and a notice goes out again.
 */
import { decodeEndedNotice, encodeEndedNotice } from '../../../protocol/envelope.js'
import { ENDED_SUBJECT } from '../../../protocol/subjects.js'
import type { Bus, Subscription } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'

/** Most ended registrations remembered, which take about 10 MB. */
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
        this.log.warn({ error }, 'cannot decode the notice of an ended registration')
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

  /** Remembers an ended registration, and informs the other cores. */
  add(device: string, registration: number): void {
    this.remember(device, registration)
    publishEnded(this.bus, device, registration)
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

/** Informs all cores of an ended registration. The notice is lost if NATS is not connected. */
export function publishEnded(bus: Bus, device: string, registration: number): void {
  bus.publish(ENDED_SUBJECT, encodeEndedNotice({ device, registration }))
}

const keyOf = (device: string, registration: number) => `${device}.${registration}`
