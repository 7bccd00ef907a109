/** After a reconnect: is the log of group messages still the one that this worker tails? If not, it begins again. */
import type { Clock } from '../../clock.js'
import type { GroupLog } from './group-log.js'

/** How soon the log is asked again where it did not answer: the store may be back later than the connection. */
const AGAIN_MS = 1_000

export interface LogCheckWorld {
  clock: Clock
  /** The log that is there now is tailed, and every cursor that a device of this worker has is of another one. */
  logReplaced(): void
  onError(what: string, error: unknown): void
}

export class LogCheck {
  /** Holds until all is begun again, over as many attempts as that takes: the half of it forgets what the log was. */
  private isReplaced = false
  private isStopped = false
  private checking: Promise<void> = Promise.resolve()
  private cancelAgain: (() => void) | null = null

  constructor(
    private readonly log: GroupLog,
    private readonly world: LogCheckWorld,
  ) {}

  /** One after the other: two that begin again at once would leave two tails. */
  look(): void {
    this.cancelAgain?.()
    this.checking = this.checking.then(() => this.check())
  }

  /** Resolves when nothing of it is under way. */
  async stop(): Promise<void> {
    this.isStopped = true
    this.cancelAgain?.()
    await this.checking
  }

  private async check(): Promise<void> {
    if (this.isStopped) return
    try {
      this.isReplaced ||= await this.log.isReplaced()
      if (!this.isReplaced || this.isStopped) return
      await this.log.restart()
      this.isReplaced = false
      this.world.logReplaced()
    } catch (error) {
      this.world.onError('the log of group messages could not be looked at', error)
      if (this.isStopped) return
      // A check that waited behind this one may have asked for it as well.
      this.cancelAgain?.()
      this.cancelAgain = this.world.clock.after(AGAIN_MS, () => this.look())
    }
  }
}
