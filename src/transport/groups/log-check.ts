/**
 * After a reconnect to NATS: checks whether the log of group messages is still the log that this worker tails. If it
 * was replaced by a new one, the tail starts again.
 */
import type { Clock } from '../../clock.js'
import type { GroupLog } from './group-log.js'

/** Delay until a failed check is repeated: the store may be back later than the connection. */
const RETRY_MS = 1_000

export interface LogCheckParts {
  clock: Clock
  /** The new log is tailed. The cursors of all devices of this worker are of the old one. */
  onLogReplaced(): void
  onError(task: string, error: unknown): void
}

export class LogCheck {
  /** Stays true until the tail has started again, over any number of attempts: a failed restart forgets the old log. */
  private isReplaced = false
  private isStopped = false
  private checking: Promise<void> = Promise.resolve()
  private cancelRetry: (() => void) | null = null

  constructor(
    private readonly log: GroupLog,
    private readonly parts: LogCheckParts,
  ) {}

  /** Checks run one after the other: two restarts at the same time would leave two tails. */
  check(): void {
    this.cancelRetry?.()
    this.checking = this.checking.then(() => this.checkNow())
  }

  /** Resolves when no check is under way. */
  async stop(): Promise<void> {
    this.isStopped = true
    this.cancelRetry?.()
    await this.checking
  }

  private async checkNow(): Promise<void> {
    if (this.isStopped) return
    try {
      this.isReplaced ||= await this.log.isReplaced()
      if (!this.isReplaced || this.isStopped) return
      await this.log.restart()
      this.isReplaced = false
      this.parts.onLogReplaced()
    } catch (error) {
      this.parts.onError('check of the log of group messages', error)
      if (this.isStopped) return
      // A check that waited behind this one may have scheduled a retry as well.
      this.cancelRetry?.()
      this.cancelRetry = this.parts.clock.after(RETRY_MS, () => this.check())
    }
  }
}
