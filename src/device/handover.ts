/**
 * Hands notifications to the app one at a time, in order, and marks each done after its handler. Last step of I2:
 * persisted, acknowledged, handed over, done.
 */
import type { StoredNotification } from './state/state.js'

export interface HandoverTarget {
  /** False: nobody listens yet, so everything waits. */
  isReady(): boolean
  /** True: nobody is there to see it yet, but may be soon. `release` says when to ask again. */
  isEarly(notification: StoredNotification): boolean
  /** Shows it; what it returns is awaited where it is a promise. It does not throw. */
  handle(notification: StoredNotification, possibleDuplicate: boolean): Promise<void> | undefined
  done(id: bigint): void
}

interface Waiting {
  notification: StoredNotification
  possibleDuplicate: boolean
}

export class Handover {
  private waiting: Waiting[] = []
  /** Early ones, oldest first. */
  private held: Waiting[] = []
  private active: Promise<void> | null = null
  private stopped = false

  /** @param heldMax beyond it the oldest early one is done without being shown. */
  constructor(
    private readonly target: HandoverTarget,
    private readonly heldMax: number,
  ) {}

  /** @param possibleDuplicate it stood in the inbox when the device started. */
  add(notification: StoredNotification, possibleDuplicate: boolean): void {
    this.waiting.push({ notification, possibleDuplicate })
    this.pump()
  }

  /** The early ones take their turn again, before what came after them. */
  release(): void {
    if (this.held.length === 0) return
    this.waiting.unshift(...this.held)
    this.held = []
    this.pump()
  }

  /** Goes on where something waits and somebody listens. */
  pump(): void {
    if (this.active || this.waiting.length === 0) return
    const running = this.run()
    this.active = running
    running.then(() => {
      this.active = null
      if (!this.stopped && this.target.isReady()) this.pump()
    })
  }

  /** No further one begins; resolves when the one at work is done. */
  async stop(): Promise<void> {
    this.stopped = true
    await this.active
  }

  private async run(): Promise<void> {
    while (!this.stopped && this.target.isReady()) {
      const next = this.waiting.shift()
      if (!next) return
      if (this.target.isEarly(next.notification)) {
        this.hold(next)
        continue
      }
      const handling = this.target.handle(next.notification, next.possibleDuplicate)
      if (handling) await handling
      this.target.done(next.notification.id)
    }
  }

  private hold(early: Waiting): void {
    this.held.push(early)
    if (this.held.length <= this.heldMax) return
    const oldest = this.held.shift()
    if (oldest) this.target.done(oldest.notification.id)
  }
}
