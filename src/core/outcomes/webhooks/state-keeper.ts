/** Keeps the state of a webhook in memory and in FEED_STATE. A new state is written at once, other changes after GAP_MS. */
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'
import type { FeedStates, Webhook, WebhookState } from '../../../store/feeds.js'

const GAP_MS = 2_000

const freshState = (createdAtMs: number): WebhookState => ({
  v: 1,
  createdAtMs,
  state: 'ok',
  lastSuccessAtMs: null,
  lastFailureAtMs: null,
  lastError: null,
  failingSinceMs: null,
  givenUp: 0,
})

export class StateKeeper {
  private isDirty = false
  private work: Promise<void> = Promise.resolve()
  private cancel: (() => void) | null = null

  private constructor(
    private readonly states: FeedStates,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly project: string,
    private value: WebhookState,
  ) {}

  /** Rejects with BrokerError. */
  static async load(
    { states, clock, log }: { states: FeedStates; clock: Clock; log: Logger },
    project: string,
    webhook: Webhook,
  ): Promise<StateKeeper> {
    const state = (await states.webhook(project, webhook)) ?? freshState(webhook.createdAtMs)
    return new StateKeeper(states, clock, log, project, state)
  }

  get state(): WebhookState {
    return this.value
  }

  set(change: Partial<WebhookState>): void {
    const before = this.value.state
    this.value = { ...this.value, ...change }
    this.isDirty = true
    if (this.value.state !== before) this.writeNow()
    else this.cancel ??= this.clock.after(GAP_MS, () => this.writeNow())
  }

  async stop(): Promise<void> {
    this.writeNow()
    await this.work
  }

  private writeNow(): void {
    this.cancel?.()
    this.cancel = null
    if (!this.isDirty) return
    this.isDirty = false
    this.work = this.work
      .then(() => this.states.writeWebhook(this.project, this.value))
      .catch((error) => {
        // Only people read the state, and the next change writes it again.
        this.log.debug({ error, project: this.project }, 'cannot write the state of a webhook')
      })
  }
}
