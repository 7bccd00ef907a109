/** A transport worker without sockets and devices: it writes sessions, and answers on the bus as the test sets it. */
import {
  type ControlReply,
  decodeControlRequest,
  decodeSettleReply,
  decodeTxBatch,
  encodeControlReply,
  encodeRxBatch,
  encodeSettleRequest,
  Report,
  type ReportCode,
  type SettleItem,
  type TxItem,
} from '../../protocol/envelope.js'
import { Bucket, controlSubject, rxSubject, SETTLE_SUBJECT, txSubject } from '../../protocol/subjects.js'
import { type Clock, systemClock } from '../../src/clock.js'
import type { Broker, Subscription } from '../../src/nats/broker.js'
import { SessionTable } from '../../src/store/sessions.js'

export type OnItem = (item: TxItem) => ReportCode | 'silent' | Promise<ReportCode | 'silent'>

export class FakeWorker {
  readonly items: TxItem[] = []
  readonly catchUpsAsked: string[] = []
  readonly instance = 'test'
  private readonly sessions: SessionTable
  private subscriptions: Subscription[] = []
  private connection = 0
  onItem: OnItem = () => Report.ACKED
  onCatchUp: (device: string) => ControlReply | 'silent' = () => 'here'
  /** The answer to the question whether the device is connected. */
  onPresence: (device: string) => ControlReply | 'silent' = () => 'here'

  constructor(
    private readonly broker: Broker,
    readonly worker = '0-test',
    private readonly clock: Clock = systemClock,
  ) {
    this.sessions = new SessionTable(broker.table(Bucket.SESSIONS), clock)
  }

  start(): this {
    const { bus } = this.broker
    this.subscriptions = [
      bus.subscribe(txSubject(this.instance, this.worker), ({ body }) => {
        const { router, items } = decodeTxBatch(body)
        for (const item of items) void this.take(router, item)
      }),
      bus.subscribe(controlSubject(this.instance, this.worker), ({ body, reply }) => {
        const { kind, device } = decodeControlRequest(body)
        if (kind === 'catch_up') this.catchUpsAsked.push(device)
        const answer = kind === 'close' ? this.onPresence(device) : this.onCatchUp(device)
        if (answer !== 'silent') bus.publish(reply, encodeControlReply(answer))
      }),
    ]
    return this
  }

  /** Ends as after kill -9: from then on the server answers requests to this worker with "no responders". */
  die(): void {
    for (const subscription of this.subscriptions.splice(0)) subscription.unsubscribe()
  }

  /** Writes a session of the device at this worker. Resolves with the revision of the session record. */
  async connect(device: string): Promise<number> {
    const connection = ++this.connection
    const { instance, worker } = this
    const claim = await this.sessions.claim(device, { instance, worker, connection: this.clock.now() + connection })
    if (!claim.ok) throw new Error(`the session of ${device} was refused`)
    return claim.revision
  }

  report(router: string, id: bigint, device: string, report: ReportCode): void {
    const { instance, worker } = this
    const item = { id, device, report, atMs: this.clock.now() }
    this.broker.bus.publish(rxSubject(router), encodeRxBatch({ instance, worker, items: [item] }))
  }

  /** Asks the core to settle queued messages. Resolves with the confirmed sequences. */
  async settle(items: SettleItem[]): Promise<number[]> {
    const request = encodeSettleRequest({ instance: this.instance, worker: this.worker, items })
    return decodeSettleReply(await this.broker.bus.request(SETTLE_SUBJECT, request, { timeoutMs: 5_000 }))
  }

  private async take(router: string, item: TxItem): Promise<void> {
    this.items.push(item)
    const report = await this.onItem(item)
    if (report !== 'silent') this.report(router, item.id, item.device, report)
  }
}
