/**
 * Passes on the notices of workers that a device has come to them from another instance: the worker that had the device
 * closes the old session at once, and not at its next audit. One transport instance cannot reach another one, so that a
 * stolen transport cannot close the sessions of others (ADR 28).
 */
import { decodeMovedNotice, encodeControlRequest, type MovedNotice } from '../../../protocol/envelope.js'
import { CORE_QUEUE, controlSubject, MOVED_SUBJECT } from '../../../protocol/subjects.js'
import type { Bus, Subscription } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import type { SessionTable } from '../../store/sessions.js'

/** Reads of sessions at the same time. A notice beyond them is dropped: the audit of the old worker replaces it. */
const READS_MAX = 256

export class MovedDevices {
  private subscription: Subscription | null = null
  private reads = 0

  constructor(
    private readonly bus: Bus,
    private readonly sessions: Pick<SessionTable, 'lookup'>,
    private readonly log: Logger,
  ) {}

  start(): void {
    const options = { queue: CORE_QUEUE }
    this.subscription = this.bus.subscribe(MOVED_SUBJECT, ({ body }) => void this.pass(body), options)
  }

  async stop(): Promise<void> {
    this.subscription?.unsubscribe()
    this.subscription = null
  }

  /** Never rejects. */
  private async pass(body: Uint8Array): Promise<void> {
    if (this.reads >= READS_MAX) return
    this.reads++
    try {
      const notice = decodeMovedNotice(body)
      if (await this.isTrue(notice)) this.close(notice)
    } catch (error) {
      this.log.warn({ error }, 'the notice of a moved device failed; the audit of its old worker closes the session')
    } finally {
      this.reads--
    }
  }

  /** The sender may be a stolen transport: a worker that still has the device keeps its session. */
  private async isTrue({ device, instance, worker }: MovedNotice): Promise<boolean> {
    const session = await this.sessions.lookup(device, { authoritative: true })
    return session !== null && !(session.live && session.instance === instance && session.worker === worker)
  }

  private close({ device, instance, worker, belowConnection }: MovedNotice): void {
    const close = encodeControlRequest({ kind: 'close', device, reason: 'replaced', belowConnection })
    this.bus.publish(controlSubject(instance, worker), close)
  }
}
