/**
 * Hands notifications to the app one at a time, in order, and marks each as done after its handler has finished. These are
 * the last two of the four steps that keep I2: persist, acknowledge, hand over, mark as done.
 */
import type { StoredNotification } from './state/state.js'

export interface HandoverTarget {
  /** False: the app has no handler yet, so all notifications wait. */
  isReady(): boolean
  /** True: no registration receives it yet, but a pending answer may add one. `releaseHeld()` checks again. */
  isEarly(notification: StoredNotification): boolean
  /** Passes the notification to the app. Must not throw. The returned promise settles when the app's handlers have. */
  handle(notification: StoredNotification, possibleDuplicate: boolean): Promise<void> | undefined
  /** Marks the notification as handed over. */
  done(id: bigint): void
}

interface Waiting {
  notification: StoredNotification
  possibleDuplicate: boolean
}

export class Handover {
  private waiting: Waiting[] = []
  /** Early notifications, oldest first. */
  private held: Waiting[] = []
  private active: Promise<void> | null = null
  private stopped = false

  /** @param heldMax most early notifications kept; beyond it the oldest is marked as done without a hand-over. */
  constructor(
    private readonly target: HandoverTarget,
    private readonly heldMax: number,
  ) {}

  /** @param possibleDuplicate the notification was in the inbox when the device started. */
  add(notification: StoredNotification, possibleDuplicate: boolean): void {
    this.waiting.push({ notification, possibleDuplicate })
    this.pump()
  }

  /** Puts the early notifications back at the head of the queue, since they arrived first. */
  releaseHeld(): void {
    if (this.held.length === 0) return
    this.waiting.unshift(...this.held)
    this.held = []
    this.pump()
  }

  /** Starts the hand-over, unless it runs already or nothing waits. */
  pump(): void {
    if (this.active || this.waiting.length === 0) return
    const running = this.run()
    this.active = running
    running.then(() => {
      this.active = null
      if (!this.stopped && this.target.isReady()) this.pump()
    })
  }

  /** Starts no further hand-over, and resolves when the running one has finished. */
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
