/**
 * Delivery: everything between acceptance and the final event of a message. This file starts the steps of one process:
 * accept, route, settle, expire, schedule, the counters, and the queries on their results. Delivery knows no HTTP and no
 * real time, so that the simulation runs it unchanged.
 */

import { BROADCAST_STREAM, Bucket, EXPIRY_STREAM, eventsStream, messagesStream } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { countUp } from '../../observe/plain-metrics.js'
import { BroadcastLog } from '../../store/broadcast.js'
import { CounterStore } from '../../store/counters.js'
import { DeviceStore } from '../../store/devices.js'
import { ExpiryLog } from '../../store/expiry.js'
import { FeedStates, openFeeds } from '../../store/feeds.js'
import { DeviceQueue } from '../../store/queue.js'
import { ReceiptLog } from '../../store/receipts.js'
import { ScheduleLog } from '../../store/schedule.js'
import { SessionTable } from '../../store/sessions.js'
import { SplitLog } from '../../store/split.js'
import { WorkerLiveness } from '../../store/workers.js'
import { MovedDevices } from '../cluster/moved-devices.js'
import { NodeNumber } from '../cluster/node-number.js'
import { newRun, RunningParts, watched } from '../cluster/running-parts.js'
import type { AcceptMessage, CancelMessage, ListMessages, ReadCounters, ReadStatus } from '../domain/commands.js'
import { CoreMetrics, CountedEvents, countedAccept } from '../metrics.js'
import type { CoreSettings } from '../settings.js'
import { createAccept } from './accept/accept.js'
import { MessageAppender } from './accept/append-once.js'
import { createCancel } from './cancel.js'
import { createReadCounters, StatsFold } from './query/counters.js'
import { MessageFinder } from './query/find-message.js'
import { createListMessages } from './query/list.js'
import { createIsConnected } from './query/presence.js'
import { createReadStatus, type StatusOptions } from './query/status.js'
import { QueueWriter } from './queue/enqueue.js'
import { ExpireStep, expireQueued } from './queue/expire.js'
import { ExpireSoon } from './queue/expire-soon.js'
import { SettleStep } from './queue/settle.js'
import { Broadcasts } from './room/broadcasts.js'
import { Expiries } from './room/expiries.js'
import { type GiveWayPolicy, GiveWayStep } from './room/give-way.js'
import { History } from './room/history.js'
import { Room } from './room/room.js'
import { Inflight } from './route/inflight.js'
import { Router } from './route/route.js'
import { SessionRecheck } from './route/session-recheck.js'
import { ScheduleStep } from './schedule/schedule.js'

export interface DeliveryOptions {
  broker: Broker
  clock: Clock
  /** Returns 0 to below 1, as Math.random does. */
  random: () => number
  settings: CoreSettings
  /** Number of streams in each of the families MESSAGES, QUEUE and EVENTS. */
  split: number
  log: Logger
  registrationIdOf: StatusOptions['registrationIdOf']
  /** A registration that a sender addressed has ended. Absent: no part needs the notice. */
  onEnded?: (device: string, registration: number) => void
  /** Where the steps count; without it, their counts go nowhere. */
  metrics?: CoreMetrics
}

export interface Delivery {
  readonly node: number
  readonly accept: AcceptMessage
  readonly readStatus: ReadStatus
  readonly cancel: CancelMessage
  readonly readCounters: ReadCounters
  readonly listMessages: ListMessages
  /** Stops the steps in the order of the flow, so that no step begins work that a later step cannot end. */
  stop(): Promise<void>
}

/** Rejects with BrokerError if the store is unavailable; then nothing is left running. */
export async function startDelivery(options: DeliveryOptions): Promise<Delivery> {
  const { broker, clock, random, settings, split, log, metrics = new CoreMetrics() } = options
  // Unique to this run. It names the routers, leases and writes of this process.
  const run = newRun(clock, random)
  const events = new CountedEvents(metrics, broker, split, run, {
    now: () => clock.now(),
    minMs: settings.historyMinMs,
  })
  const expiry = new ExpiryLog(broker, settings.expiryBucketMs)
  const queue = new DeviceQueue(broker, split, (m, sequence) => expiry.addQueued(m, sequence, clock.now()))
  const counters = new CounterStore(broker)
  const schedule = new ScheduleLog(broker, settings.scheduleBucketMs)
  const receipts = new ReceiptLog(broker)
  const feeds = openFeeds(broker)
  const feedStates = new FeedStates(broker)
  const finder = new MessageFinder(broker, split, events, schedule)
  const sessions = new SessionTable(broker.table(Bucket.SESSIONS), clock)
  const devices = new DeviceStore(broker.table(Bucket.DEVICES))
  const leases = { table: broker.table(Bucket.CORES), clock, holder: run, leaseMs: settings.leaseMs }

  const room = new Room({ broker, clock, split, log })
  room.start()
  const parts = new RunningParts(leases, log)

  const expireSoon = new ExpireSoon({
    clock,
    log,
    expire: (entries) => expireQueued({ events, queue, clock }, entries),
  })
  parts.add(expireSoon)

  const beginRouting = (index: number, liveness: WorkerLiveness) => async () => {
    const messages = broker.log(messagesStream(index))
    const inflight = new Inflight(metrics)
    const router = new Router({
      broker,
      clock,
      settings,
      log,
      name: `${run}-${index}`,
      messages,
      inflight,
      events,
      sessions,
      liveness,
      devices,
      onEnded: options.onEnded ?? (() => undefined),
      queueWriter: new QueueWriter({ clock, log, queue, events, expiry, expireSoon, queueMax: settings.queueMax }),
      sessionRecheck: new SessionRecheck(broker.bus, sessions, liveness, settings.controlTimeoutMs),
    })
    await router.start()
    return watched(metrics, router, {
      name: `route.${index}`,
      inflight: () => inflight.size,
      lag: async () => Math.max(0, (await messages.state()).messages - inflight.size),
    })
  }
  const makeRoom = (policy: GiveWayPolicy) => {
    const onGone = (stream: string, messages: number) => countUp(metrics.gaveWay, stream, messages)
    const step = new GiveWayStep({ clock, log, policy, onGone })
    step.start()
    return step
  }
  const beginFold = (index: number) => async () => {
    const eventsOf = broker.log(eventsStream(index))
    const { checkpointMs, counterDaysMax: daysMax, recentMax } = settings
    const fold = new StatsFold({
      clock,
      log,
      events: eventsOf,
      index,
      counters,
      checkpointMs,
      daysMax,
      recentMax,
    })
    await fold.start()
    const { historyMinMs } = settings
    const readUpTo = async () => {
      const isPublished = (await feeds.all()).length > 0
      return isPublished ? Math.min(fold.storedAt, await feedStates.position(index)) : fold.storedAt
    }
    const messages = broker.log(messagesStream(index))
    const history = makeRoom(
      new History({
        ...{ clock, index, stream: eventsOf, messages, events, finder, schedule, room, readUpTo, historyMinMs },
      }),
    )
    const both = { stop: () => history.stop().then(() => fold.stop()) }
    return watched(metrics, both, {
      name: `count.${index}`,
      inflight: () => 0,
      lag: async () => Math.max(0, (await eventsOf.state()).lastSequence - fold.at),
    })
  }

  try {
    const node = new NodeNumber(leases, random)
    parts.add(node)
    const number = await node.start()
    // The steps start in the reverse order of the flow, so that stop() ends them in the order of the flow.
    if (settings.counting) for (let i = 0; i < split; i++) await parts.underLease(`stats.${i}`, beginFold(i))
    if (settings.expiring) {
      const { expiryBucketMs: bucketMs, expiryLookBack: lookBack } = settings
      await parts.underLease('expire', async () => {
        const step = new ExpireStep({ clock, log, events, expiry, queue, bucketMs, lookBack })
        step.start()
        return step
      })
      await parts.underLease('room', async () => {
        const { historyMinMs } = settings
        const stream = broker.log(EXPIRY_STREAM)
        const steps = [
          makeRoom(new Expiries({ clock, stream, expiry, events, queue, room, historyMinMs })),
          makeRoom(new Broadcasts(broker.log(BROADCAST_STREAM), { clock, room })),
        ]
        return { stop: () => Promise.all(steps.map((step) => step.stop())).then(() => undefined) }
      })
    }
    if (settings.scheduling) {
      const { scheduleBucketMs: bucketMs, scheduleLookBack: lookBack } = settings
      const appender = new MessageAppender(
        new SplitLog(broker, messagesStream, split),
        new BroadcastLog(broker),
        events,
      )
      await parts.underLease('schedule', async () => {
        const step = new ScheduleStep({ clock, log, events, schedule, appender, bucketMs, lookBack })
        step.start()
        return step
      })
    }
    if (settings.settling) {
      const { settleInFlightMax: inFlightMax } = settings
      const settle = new SettleStep({ bus: broker.bus, clock, log, metrics, events, queue, inFlightMax })
      settle.start()
      parts.add(settle)
      const moved = new MovedDevices(broker.bus, sessions, log)
      moved.start()
      parts.add(moved)
    }
    if (settings.routing) {
      const liveness = new WorkerLiveness(broker, clock)
      parts.add(liveness)
      await liveness.start()
      for (let i = 0; i < split; i++) await parts.underLease(`router.${i}`, beginRouting(i, liveness))
    }
    return {
      node: number,
      accept: countedAccept(createAccept({ broker, clock, split, events, schedule, ids: node, room }), metrics),
      readStatus: createReadStatus({
        ...{ clock, events, finder, sessions, schedule },
        isConnected: createIsConnected(broker.bus, sessions),
        ...{ registrationIdOf: options.registrationIdOf, historyMinMs: settings.historyMinMs },
        readReceipts: (id) => receipts.read(id),
      }),
      cancel: createCancel({ clock, events, finder, queue, schedule, sessions }),
      readCounters: createReadCounters(counters, split),
      listMessages: createListMessages(counters, events, split),
      stop: () => parts.stop(),
    }
  } catch (error) {
    return parts.abandon(error)
  }
}
