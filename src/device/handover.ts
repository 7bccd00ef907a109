/**
 * Hands notifications to the app one at a time, in order, and marks each done after its handler. Last step of I2:
 * persisted, acknowledged, handed over, done.
 */
import type { StoredNotification } from './state.js'

export interface HandoverTarget {
  /** False: nobody listens yet, so everything waits. */
  isReady(): boolean
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
  private active: Promise<void> | null = null
  private stopped = false

  constructor(private readonly target: HandoverTarget) {}

  /** @param possibleDuplicate it stood in the inbox when the device started. */
  add(notification: StoredNotification, possibleDuplicate: boolean): void {
    this.waiting.push({ notification, possibleDuplicate })
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
      const handling = this.target.handle(next.notification, next.possibleDuplicate)
      if (handling) await handling
      this.target.done(next.notification.id)
    }
  }
}
