/**
 * Route: takes accepted messages from one MESSAGES stream and brings each to a worker, to the device's queue, or to its
 * end. This is the heart of "no loss": the acknowledgement to JetStream comes last, after the `accepted` event is stored
 * and either the final event is stored or the enqueue is complete. A crash at any earlier point leads to a redelivery.
 *
 *   first delivery -> session known -> sent live -> ACKED -> final `delivered` -> ack
 *                  -> in the lane of its device: look up the session -> live, or enqueue
 *   sent live      -> silent, refused, worker dead -> in the lane -> enqueue -> ack
 *   redelivery     -> in the lane -> enqueue (never live; no append if it has ended) -> ack
 *   the registration has ended, by the worker or the device record -> final `failed` -> ack
 */
import {
  decodeRxBatch,
  decodeStoredMessage,
  Report,
  type RxItem,
  type StoredMessage,
} from '../../../../protocol/envelope.js'
import { rxSubject } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { Broker, BusMessage, Consumption, Delivery, Log, Subscription } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import { type DeviceStore, hasEnded } from '../../../store/devices.js'
import type { EventLog, FinalKind } from '../../../store/events.js'
import type { SessionEntry } from '../../../store/sessions.js'
import { type QueueReason, REGISTRATION_ENDED } from '../../domain/statuses.js'
import type { CoreSettings } from '../../settings.js'
import { isExpired, isOnlyNow, onlyNowReason } from '../expiry.js'
import type { QueueWriter } from '../queue/enqueue.js'
import { type AcceptedMark, byAcceptance, type Inflight, type Target } from './inflight.js'
import { Lanes, takeFirst } from './lanes.js'
import { Redeliveries } from './redeliveries.js'
import { SessionCache, sameSession } from './session-cache.js'
import type { Liveness, SessionLookup, SessionRecheck } from './session-recheck.js'
import { TxBatcher } from './tx-batcher.js'

export interface RouterOptions {
  broker: Broker
  clock: Clock
  settings: CoreSettings
  log: Logger
  /** Unique to this router and run, one subject token. Workers send their reports to `rx.<name>`. */
  name: string
  /** The MESSAGES stream that this router serves. */
  messages: Log
  events: EventLog
  sessions: SessionLookup
  liveness: Liveness
  inflight: Inflight
  queueWriter: QueueWriter
  devices: DeviceStore
  /** The registration has ended, and a sender does not know. */
  onEnded: (device: string, registration: number) => void
  sessionRecheck: SessionRecheck
}

const DURABLE = 'route'
/** How long a record of an unknown version waits for a router that knows it. */
const UNREADABLE_RETRY_MS = 30_000
/** Most messages of one device that wait for older ones to return. Beyond it, the older ones are queued as well. */
const BEHIND_MAX = 64

export class Router {
  private readonly cache: SessionCache
  private readonly batcher: TxBatcher
  private readonly lanes: Lanes<Target>
  private readonly endings = new Set<Promise<void>>()
  private consumption: Consumption | null = null
  private subscriptions: Subscription[] = []
  private cancelSweep: (() => void) | null = null
  private sweeps = 0
  private readonly redeliveries: Redeliveries
  private stopping = false

  constructor(private readonly options: RouterOptions) {
    const { broker, clock, settings, name } = options
    const { batchItemsMax: itemsMax, batchBytesMax: bytesMax } = settings
    this.redeliveries = new Redeliveries(clock, settings.ackWaitMs)
    this.cache = new SessionCache(settings.sessionsCachedMax)
    this.batcher = new TxBatcher({ bus: broker.bus, clock, router: name, itemsMax, bytesMax })
    this.lanes = new Lanes(byAcceptance, (device, queue) => this.workLane(device, queue))
  }

  async start(): Promise<void> {
    const { broker, name, settings, messages } = this.options
    const { ackWaitMs, routePendingMax: pendingMax } = settings
    this.subscriptions = [rxSubject(name), `${rxSubject(name)}.*`].map((subject) =>
      broker.bus.subscribe(subject, (message) => this.onReports(message)),
    )
    this.sweep()
    this.consumption = await messages.consume({ durable: DURABLE, ackWaitMs, pendingMax }, (d) => this.onDelivery(d))
  }

  /** Takes no new messages, waits for those in flight, and nacks the rest for another router. */
  async stop(): Promise<void> {
    this.stopping = true
    await this.consumption?.stop()
    this.batcher.flush()
    const { clock, settings } = this.options
    for (let waited = 0; this.options.inflight.size > 0 && waited < settings.drainMs; waited += settings.sweepMs) {
      await new Promise<void>((resolve) => clock.after(settings.sweepMs, resolve))
    }
    this.cancelSweep?.()
    for (const subscription of this.subscriptions) subscription.unsubscribe()
    for (const target of this.options.inflight.all()) this.nack(target)
    await this.lanes.idle()
    await Promise.all(this.endings)
  }

  // ---- from JetStream -------------------------------------------------------------------------

  private onDelivery(delivery: Delivery): void {
    const message = this.stopping ? null : this.read(delivery)
    if (message === null) {
      delivery.nack(this.stopping ? 0 : UNREADABLE_RETRY_MS)
      return
    }
    const known = this.options.inflight.get(message.id)
    // Its ack wait ran out while it is in flight. The work goes on and acknowledges the new delivery.
    if (known) known.delivery = delivery
    else this.admit(message, delivery)
  }

  private admit(message: StoredMessage, delivery: Delivery): void {
    const redelivered = this.redeliveries.isRedelivery(delivery)
    const target: Target = {
      message,
      delivery,
      redelivered,
      accepted: this.markAccepted(message),
      state: 'lane',
      // A redelivered message never goes live: the device may have it, and its acknowledgement may be on its way.
      next: redelivered ? 'enqueue' : 'send',
      session: null,
      batch: 0,
      sentSweep: 0,
      ackedAtMs: 0,
      queueReason: redelivered ? 'redelivered' : '',
    }
    this.options.inflight.add(target)
    const session = redelivered || this.lanes.has(message.device) ? undefined : this.cachedSession(message.device)
    if (session) this.send(target, session)
    else this.lanes.push(message.device, target)
  }

  private markAccepted(message: StoredMessage): Promise<AcceptedMark> {
    return this.options.events.accepted(message).then(
      (isFirst) => (isFirst ? 'first' : 'present'),
      () => 'unknown',
    )
  }

  private read(delivery: Delivery): StoredMessage | null {
    try {
      return decodeStoredMessage(delivery.body)
    } catch (error) {
      this.options.log.error({ error, subject: delivery.subject }, 'an accepted message cannot be read')
      return null
    }
  }

  private cachedSession(device: string): SessionEntry | undefined {
    const session = this.cache.get(device)
    return session && !this.options.liveness.isDead(session.instance, session.worker) ? session : undefined
  }

  // ---- to workers -----------------------------------------------------------------------------

  private send(target: Target, session: SessionEntry): void {
    const { message } = target
    const nowMs = this.options.clock.now()
    if (isExpired(message, nowMs)) {
      this.end(target, 'expired', isOnlyNow(message) ? 'not_connected' : '', nowMs)
      return
    }
    // A message with ttl 0s stays valid as long as a device may take to acknowledge it.
    const until = isOnlyNow(message) ? nowMs + this.options.settings.silentMs : message.expiresAtMs
    target.session = session
    target.sentSweep = this.sweeps
    this.options.inflight.markSent(target)
    const { id, device, frame } = message
    target.batch = this.batcher.add(session.instance, session.worker, { id, device, expiresAtMs: until, frame })
  }

  // ---- from workers ---------------------------------------------------------------------------

  private onReports(message: BusMessage): void {
    try {
      if (message.noResponders) this.onDeadWorker(this.batcher.batchOfReply(message.subject))
      else for (const item of decodeRxBatch(message.body).items) this.onReport(item)
    } catch (error) {
      this.options.log.warn({ error, subject: message.subject }, 'the reports of a worker cannot be read')
    }
  }

  private onDeadWorker(batch: number | null): void {
    if (batch === null) return
    for (const target of this.options.inflight.liveInBatch(batch)) this.toLane(target, 'worker_dead')
  }

  private onReport({ id, device, report, atMs }: RxItem): void {
    const target = this.options.inflight.get(id)
    // Late: the message was queued meanwhile, or belongs to an earlier router. Settle writes its end.
    if (!target || target.message.device !== device) return
    if (report === Report.ACKED) {
      if (target.state === 'live') this.end(target, 'delivered', '', atMs)
      // An enqueue that has begun completes. The acknowledgement becomes the final event when the lane reaches it.
      else if (target.state !== 'ending') target.ackedAtMs = atMs
      return
    }
    if (target.state !== 'live') return
    if (report === Report.ENDED) this.endedRegistration(target)
    else if (report === Report.EXPIRED) this.expiredAtWorker(target)
    else if (report === Report.NOT_HERE) this.toLane(target, 'not_here')
    else this.toLane(target, report === Report.WINDOW_FULL ? 'window_full' : 'closed')
  }

  /** The clock of a worker ends no message: this router looks at its own. */
  private expiredAtWorker(target: Target): void {
    const nowMs = this.options.clock.now()
    if (isExpired(target.message, nowMs)) this.end(target, 'expired', '', nowMs)
    else this.toLane(target, 'clock')
  }

  /** Puts a message that returns undelivered from a worker into the lane of its device. */
  private toLane(target: Target, reason: QueueReason): void {
    const { device } = target.message
    if (reason !== 'window_full') this.cache.forget(device)
    // The session may have moved: one more live attempt. A second "not here" leads to the queue.
    target.next = reason === 'not_here' && target.queueReason !== 'not_here' ? 'send' : 'enqueue'
    target.queueReason = reason
    this.options.inflight.markReturned(target, 'lane')
    this.lanes.push(device, target)
  }

  /** Checks for silent devices, oldest first. One sweep replaces a timer for each message. */
  private sweep(): void {
    const { clock, settings } = this.options
    this.cancelSweep = clock.after(settings.sweepMs, () => {
      const patience = Math.ceil(settings.silentMs / settings.sweepMs)
      this.sweeps++
      for (const target of this.options.inflight.liveSentUntil(this.sweeps - 1 - patience))
        this.toLane(target, 'silent')
      this.sweep()
    })
  }

  // ---- lanes: one device, one action at a time ------------------------------------------------

  private async workLane(device: string, queue: Target[]): Promise<void> {
    const head = queue[0]
    if (!head) return
    try {
      if (this.stopping) for (const target of queue.splice(0)) this.nack(target)
      else if (this.mustWait(head)) await this.waitForOlder(head, queue)
      else if (head.next === 'send') await this.findSession(device, queue)
      else {
        const next = takeFirst(queue, (target) => target.next === 'enqueue' && !this.mustWait(target))
        await this.enqueueAll(device, next)
      }
    } catch (error) {
      // An error in our code, not in the store. JetStream delivers the messages again.
      this.options.log.error({ error, device }, 'a lane failed')
      for (const target of queue.splice(0)) this.nack(target)
    }
  }

  private mustWait(target: Target): boolean {
    return (target.next === 'enqueue' || target.session !== null) && this.options.inflight.olderLive(target).length > 0
  }

  /**
   * A message that returned undelivered waits for older live messages of its device. If it were queued first, the device
   * would get it before the older ones. They return within silentMs, or are called back now if the lane is too long.
   */
  private async waitForOlder(head: Target, queue: Target[]): Promise<void> {
    if (queue.length > BEHIND_MAX) for (const older of this.options.inflight.olderLive(head)) this.toLane(older, 'slow')
    else await this.options.inflight.nextReturn(head.message.device)
  }

  /** Sends the waiting messages to the session. If there is none, leaves all messages in the lane to be queued. */
  private async findSession(device: string, queue: Target[]): Promise<void> {
    const moved = queue[0]?.session !== null
    let found: SessionEntry | null
    try {
      found = (moved ? undefined : this.cachedSession(device)) ?? (await this.lookUpSession(device, moved))
    } catch (error) {
      this.options.log.debug({ error, device }, 'a session cannot be looked up')
      for (const target of takeFirst(queue, (target) => target.next === 'send')) this.nack(target)
      return
    }
    // Nothing is awaited from here on, so that no later message of the device can come first.
    if (found) this.cache.remember(device, found)
    for (let head = queue[0]; head?.next === 'send'; head = queue[0]) {
      const denied = found !== null && head.session !== null && sameSession(head.session, found)
      if (found === null || denied) {
        this.cache.forget(device)
        for (const target of queue) {
          target.next = 'enqueue'
          target.queueReason ||= 'not_connected'
        }
        return
      }
      queue.shift()
      this.send(head, found)
    }
  }

  private async lookUpSession(device: string, authoritative: boolean): Promise<SessionEntry | null> {
    const { sessions, liveness } = this.options
    const session = await sessions.lookup(device, { authoritative })
    return session?.live && !liveness.isDead(session.instance, session.worker) ? session : null
  }

  private async enqueueAll(device: string, targets: Target[]): Promise<void> {
    for (const target of targets) target.state = 'enqueuing'
    const ours = await this.withoutForeign(targets)
    const { clock, queueWriter, sessionRecheck, log } = this.options
    const owed: Target[] = []
    const ended: Target[] = []
    try {
      for (const [target, isEnded] of await this.withFinals(ours)) {
        const { message } = target
        if (isEnded) ended.push(target)
        else if (target.ackedAtMs > 0) this.end(target, 'delivered', '', target.ackedAtMs)
        else if (isOnlyNow(message)) this.end(target, 'expired', onlyNowReason(target), clock.now())
        else if (isExpired(message, clock.now())) this.end(target, 'expired', '', clock.now())
        else owed.push(target)
      }
      await this.refuseEnded(device, owed)
      if (owed.length + ended.length === 0) return
      await queueWriter.withdraw(
        device,
        ended.map((target) => target.message),
      )
      const mayBeQueued = new Set(
        owed.filter((target) => this.redeliveries.mayBeElsewhere(target)).map((target) => target.message.id),
      )
      const messages = owed.map((target) => target.message)
      const results = await queueWriter.enqueue(device, messages, mayBeQueued)
      const replaced = owed.filter((_, index) => results[index] === 'replaced')
      for (const target of replaced) this.end(target, 'collapsed', '', clock.now())
      const queued = owed.filter((_, index) => results[index] !== 'replaced')
      const traces = owed
        .filter((_, index) => results[index] === 'queued')
        .map(({ message, queueReason }) => queueWriter.traceQueued(message, queueReason))
      // Also for ended messages: another router may just have queued a copy of one.
      const [seen] = await Promise.all([sessionRecheck.isSeen(device), ...traces])
      for (const target of [...queued, ...ended]) this.finishEnqueue(target, seen)
    } catch (error) {
      log.debug({ error, device }, 'enqueuing did not complete')
      for (const target of ours) if (target.state === 'enqueuing') this.nack(target)
    }
  }

  /** Ends the messages to registrations that have ended, and removes them from `owed`. A stale record lacks ends, but has no false ones. */
  private async refuseEnded(device: string, owed: Target[]): Promise<void> {
    if (owed.length === 0) return
    const record = await this.options.devices.read(device)
    for (let i = owed.length - 1; i >= 0; i--) {
      const target = owed[i] as Target
      if (!hasEnded(record, target.message.registration)) continue
      owed.splice(i, 1)
      this.endedRegistration(target)
    }
  }

  private endedRegistration(target: Target): void {
    const { device, registration } = target.message
    this.options.onEnded(device, registration)
    this.end(target, 'failed', REGISTRATION_ENDED, this.options.clock.now())
  }

  /**
   * The targets whose `accepted` event is not from a cancel. A cancel that finds a message before this router does stores
   * that event itself, and then the end. So this nacks a first delivery whose event another process stored: at its
   * redelivery the end is known, or the message has left the stream. Without this, the router could queue a message after
   * its sender has the answer that it is cancelled.
   *
   * Invariant: a message in a queue has its `accepted` event. If it is missing, the message has ended and its events have
   * left the store (EventLog.hasLeft). So this nacks a target also where it is not known whether that event is stored.
   */
  private async withoutForeign(targets: Target[]): Promise<Target[]> {
    const marks = new Map<Target, AcceptedMark>()
    for (const target of targets) marks.set(target, await target.accepted)
    const isForeign = (target: Target) =>
      !target.redelivered && target.ackedAtMs === 0 && marks.get(target) === 'present'
    const isUnknown = (target: Target) => target.ackedAtMs === 0 && marks.get(target) === 'unknown'
    const foreign = new Set(targets.filter((target) => isForeign(target) || isUnknown(target)))
    for (const target of foreign) this.nack(target)
    return targets.filter((target) => !foreign.has(target))
  }

  /**
   * Pairs each target with whether it has ended. A message that was delivered before, or was live at a worker, may have
   * ended. One that goes to the queue directly has not: a cancel notices that it is in flight, and waits (cancel.ts).
   */
  private withFinals(targets: Target[]): Promise<[Target, boolean][]> {
    return Promise.all(
      targets.map(async (target): Promise<[Target, boolean]> => {
        if (!target.redelivered && target.session === null) return [target, false]
        return [target, (await this.options.events.readFinal(target.message.id)) !== null]
      }),
    )
  }

  private finishEnqueue(target: Target, seen: boolean): void {
    if (!seen) this.nack(target)
    else if (target.ackedAtMs > 0) this.end(target, 'delivered', '', target.ackedAtMs)
    else this.track(this.acknowledge(target))
  }

  // ---- the end --------------------------------------------------------------------------------

  /** Writes the final event and then acknowledges. */
  private end(target: Target, kind: FinalKind, reason: string, atMs: number): void {
    this.options.inflight.markReturned(target, 'ending')
    this.track(this.writeEnd(target, kind, reason, atMs))
  }

  private async writeEnd(target: Target, kind: FinalKind, reason: string, atMs: number): Promise<void> {
    const { events, queueWriter, log } = this.options
    const { id, project, application, device } = target.message
    try {
      const outcome = await events.final(id, { kind, atMs, project, application, device, reason })
      const ended = outcome.won ? null : outcome.existing
      if (kind === 'delivered' && ended && ended.kind !== 'delivered') {
        await events.trace(id, { step: 'late_ack', atMs, reason: ended.kind })
      }
      // An earlier attempt may have queued it. As everywhere, the queue is checked after the event is written.
      if (target.redelivered) await queueWriter.withdraw(device, [target.message])
    } catch (error) {
      log.debug({ error, id }, 'a final event cannot be written')
      this.nack(target)
      return
    }
    await this.acknowledge(target)
  }

  /** The only place that acknowledges. Except for the `accepted` event, all records of the message are stored before. */
  private async acknowledge(target: Target): Promise<void> {
    let mark = await target.accepted
    if (mark === 'unknown') mark = await this.markAccepted(target.message)
    if (mark !== 'unknown') {
      this.options.inflight.remove(target)
      target.delivery.ack()
    } else this.nack(target)
  }

  private nack(target: Target): void {
    this.options.inflight.nack(target)
    target.delivery.nack(this.stopping ? 0 : this.options.settings.retryMs)
  }

  /** Registers work that stop() has to wait for. */
  private track(ending: Promise<void>): void {
    this.endings.add(ending)
    void ending.finally(() => this.endings.delete(ending))
  }
}
