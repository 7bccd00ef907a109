/**
 * The messages of this worker to the core that are sent once: reports for routers, and requests of devices. A router
 * that gets no report enqueues the message after a time-out of its own; a device repeats a request that is not
 * answered.
 */
import {
  addRxItem,
  type DeviceRequest,
  decodeDeviceReply,
  encodeDeviceRequest,
  encodeRxFields,
  newRxFields,
  type ReportCode,
  type RxFields,
} from '../../../protocol/envelope.js'
import type { ServerFrame } from '../../../protocol/frame-types.js'
import { DEVICE_REQUEST_SUBJECT, rxSubject } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Bus } from '../../nats/broker.js'
import { errorFrame } from '../session/requests.js'

/** Most reports of one batch. */
const BATCH_MAX = 512

/** A report waits this long for others to the same router. No device notices it, and more reports share one write. */
const BATCH_MS = 8

export interface UplinkOptions {
  instance: string
  worker: string
  /** For requests of devices. */
  timeoutMs: number
  onError: (task: string, error: unknown) => void
}

export class Uplink {
  /** One batch of reports for each router. */
  private readonly batches = new Map<string, RxFields>()
  private cancelFlush: (() => void) | null = null

  constructor(
    private readonly bus: Bus,
    private readonly clock: Clock,
    private readonly options: UplinkOptions,
  ) {}

  /** @param atMs this worker's clock. */
  report(router: string, id: bigint, device: string, report: ReportCode, atMs: number): void {
    let batch = this.batches.get(router)
    if (!batch) {
      batch = newRxFields(this.options.instance, this.options.worker)
      this.batches.set(router, batch)
    }
    if (addRxItem(batch, id, device, report, atMs) >= BATCH_MAX) this.publish(router, batch)
    else this.cancelFlush ??= this.clock.after(BATCH_MS, () => this.flush())
  }

  /** Sends all waiting reports now. */
  flush(): void {
    this.cancelFlush?.()
    this.cancelFlush = null
    for (const [router, batch] of this.batches) this.publish(router, batch)
  }

  /** Resolves with the answer for the device. If the core does not answer, that is an ERROR frame as well. */
  async request(requestNumber: number, request: DeviceRequest): Promise<ServerFrame> {
    try {
      const { timeoutMs } = this.options
      const body = await this.bus.request(DEVICE_REQUEST_SUBJECT, encodeDeviceRequest(request), { timeoutMs })
      const reply = decodeDeviceReply(body)
      if (!reply.ok) return errorFrame(reply.code, reply.detail, requestNumber, reply.retryAfterMs)
      const { registration, registrationId, project, subscriptions } = reply
      if (request.kind !== 'register') return { type: 'DONE', request: requestNumber, subscriptions }
      return { type: 'REGISTERED', request: requestNumber, registration, registrationId, subscriptions, project }
    } catch (error) {
      this.options.onError('device request', error)
      return errorFrame('unavailable', 'the core did not answer', requestNumber)
    }
  }

  private publish(router: string, batch: RxFields): void {
    this.batches.delete(router)
    this.bus.publish(rxSubject(router), encodeRxFields(batch))
  }
}
