/**
 * One worker of a transport instance: makes all its parts, and starts and stops them in order. It reaches the world
 * only through the Broker, the Clock and the Sockets that it is given, so the simulation runs it unchanged.
 *
 * The way of a connection: socket/ -> connections.ts -> admission/ -> session/. The way of a push: delivery/ or
 * groups/ -> session/ -> socket/. upkeep/ has the periodic tasks, supervisor/ the processes.
 */
import { BROADCAST_STREAM, Bucket } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { KeyringMark, TransportKeys } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import { DeviceStore } from '../store/devices.js'
import { DeviceQueue } from '../store/queue.js'
import { ReceiptLog } from '../store/receipts.js'
import { ServiceClock } from '../store/service-clock.js'
import { SessionTable } from '../store/sessions.js'
import { WorkerLease } from '../store/workers.js'
import { Admission } from './admission/admission.js'
import { Credentials } from './admission/credentials.js'
import { Greetings } from './admission/greeting.js'
import { Handshake } from './admission/handshake.js'
import { Revocations } from './admission/revocations.js'
import { Throughput } from './admission/throughput.js'
import { Connections } from './connections.js'
import { CatchUps } from './delivery/catch-up.js'
import { Downlink } from './delivery/downlink.js'
import { Effects } from './delivery/effects.js'
import { Settlements } from './delivery/settlements.js'
import { Uplink } from './delivery/uplink.js'
import { Groups } from './groups/groups.js'
import { Receipts } from './groups/receipts.js'
import { type Levels, WorkerMetrics } from './metrics.js'
import { Registry } from './session/registry.js'
import { Tombstones } from './session/tombstones.js'
import type { TransportSettings } from './settings.js'
import type { Sockets } from './socket/socket.js'
import { Turns } from './turns.js'
import { Audit } from './upkeep/audit.js'
import { drain, drainPace } from './upkeep/drain.js'
import { QuietCollection } from './upkeep/quiet-collection.js'
import { Sweep } from './upkeep/sweep.js'

/** The open descriptors are counted once in this many ticks. */
const DESCRIPTORS_TICKS = 5

/** First estimate of the capacity of a worker that has a core of its own. Throughput corrects it under load. */
const HANDSHAKES_PER_SECOND = 1_000

/** A silent device is closed after this many keepalive intervals. */
const IDLE_INTERVALS = 1.5

export interface WorkerOptions {
  broker: Broker
  clock: Clock
  sockets: Sockets
  settings: TransportSettings
  /** The number of streams that QUEUE and EVENTS are split into. */
  split: number
  keys: TransportKeys
  /** The issuer of device tokens. */
  issuer: string
  /** The name of this worker, as workerId() makes it. */
  worker: string
  /** Most connections, within the descriptors of the process. */
  connectionsMax: number
  /** The number of open descriptors of the process; null if it is unknown. */
  descriptors: () => number | null
  /** Runs a full garbage collection. Absent if the process does not allow it. */
  collectGarbage?: () => void
  /** How late the event loop of the process is. */
  lagMs: () => number
  /** Where it runs, for operators. Absent in tests and in the simulation. */
  place?: { host: string; pid: number }
  /** The share of a core that the worker has while all workers are busy; 1 by default. */
  coreShare?: number
  log: Logger
}

export class Worker {
  /** The name under which the bus and the tables know this worker. */
  readonly owner: { readonly instance: string; readonly worker: string }
  readonly metrics = new WorkerMetrics()
  readonly registry = new Registry()
  readonly groups: Groups
  private readonly greetings = new Greetings()
  private keyring: KeyringMark | null
  private readonly clock: ServiceClock
  private readonly turns: Turns
  private readonly admission: Admission
  private readonly credentials: Credentials
  private readonly revocations: Revocations
  private readonly connections: Connections
  private readonly effects: Effects
  private readonly uplink: Uplink
  private readonly settlements: Settlements
  private readonly receipts: Receipts
  private readonly tombstones: Tombstones
  private readonly downlink: Downlink
  private readonly audit: Audit
  private readonly sweep: Sweep
  private readonly lease: WorkerLease
  private readonly collection: QuietCollection
  private statusSubscription: { unsubscribe(): void } | null = null
  private isLeaving = false

  constructor(private readonly options: WorkerOptions) {
    const { broker, sockets, settings, split, log } = options
    const { bus } = broker
    const { metrics, registry, greetings } = this
    const owner = { instance: settings.instance, worker: options.worker }
    const timeoutMs = settings.coreTimeoutMs
    const onError = (task: string, error: unknown) => log.warn({ task, error }, 'a task of the worker failed')
    const clock = new ServiceClock(options.clock, {
      onWrong: (aheadMs) => log.warn({ aheadMs }, 'the clock of this machine differs from the clock of nats-server'),
      onError: (error) => onError('time of the store', error),
    })
    const turns = new Turns(clock, () => this.effects.outbox.flush(), onError)

    const sessions = new SessionTable(broker.table(Bucket.SESSIONS), clock)
    const devices = new DeviceStore(broker.table(Bucket.DEVICES))
    const queue = new DeviceQueue(broker, split)

    const catchUps = new CatchUps(queue, settings.catchUpsInFlightMax)
    const tombstones = new Tombstones(sessions, owner, clock, settings, onError)
    const uplink = new Uplink(bus, clock, { ...owner, timeoutMs, onError })
    const settlements = new Settlements(bus, clock, metrics, {
      ...owner,
      settlesMax: settings.settlesMax,
      settleRepeatMs: settings.settleRepeatMs,
      timeoutMs,
      onError,
      onGivenUp: (device) => registry.markUnsettled(device),
    })
    const limits = {
      window: settings.windowMax,
      held: settings.heldMax,
      requests: settings.requestsInFlightMax,
      framesPerSecond: settings.framesPerSecondMax,
    }
    const effects = new Effects(limits, {
      turns,
      registry,
      catchUps,
      uplink,
      settlements,
      tombstones,
      metrics,
      onError,
      onSubscriptionsChanged: (session) => this.groups.refresh(session),
      leaveGroups: (session) => this.groups.leave(session),
      onEnded: (session) => this.groups.ended(session),
    })

    const receipts = new Receipts(new ReceiptLog(broker), clock, owner, onError)
    const groups = new Groups(
      broker.log(BROADCAST_STREAM),
      {
        clock,
        sockets,
        devices,
        receipts,
        onError,
        turn: (work) => turns.run('groups', work),
        forward: (session, frame) => effects.forwardGroup(session, frame),
        sendFrame: (session, frame) => effects.send(session, frame),
        closeUnavailable: (session) => effects.close(session, 'unavailable'),
        closeTooSlow: (session) => effects.close(session, 'too_slow'),
        onLogReplaced: () => this.logReplaced(),
        onPublished: (subscribers, frameBytes) => {
          metrics.notifiedGroup += subscribers
          metrics.bytesSent += subscribers * frameBytes
        },
      },
      {
        cacheBytesMax: settings.groupCacheBytesMax,
        topicsMax: settings.groupTopicsMax,
        catchUpsMax: settings.catchUpsInFlightMax,
        bufferedBytesMax: settings.catchUpBufferedBytesMax,
        stalledMs: settings.catchUpStalledMs,
      },
    )

    const credentials = new Credentials(options.keys, options.issuer)
    const revocations = new Revocations(broker, {
      device: (device) => this.revoked(device),
      fleet: (fleet) => this.cutOff(fleet),
    })
    const throughput = new Throughput(HANDSHAKES_PER_SECOND * (options.coreShare ?? 1))
    const handshake = new Handshake({
      settings,
      owner,
      bus,
      turns,
      credentials,
      revocations,
      registry,
      effects,
      sessions,
      tombstones,
      catchUps,
      devices,
      groups,
      metrics,
      throughput,
      onError,
    })
    const admission = new Admission(
      { ...settings, connectionsMax: options.connectionsMax },
      { lagMs: options.lagMs, greeting: () => greetings.expected, handshaking: () => handshake.underWay },
      throughput,
    )
    const connections = new Connections({
      clock,
      log,
      turns,
      admission,
      greetings,
      handshake,
      effects,
      groups,
      metrics,
      skippedFramesMax: settings.framesPerSecondMax,
      onError,
    })

    this.owner = owner
    this.keyring = options.keys.keyring ?? null
    this.clock = clock
    this.turns = turns
    this.tombstones = tombstones
    this.uplink = uplink
    this.settlements = settlements
    this.effects = effects
    this.receipts = receipts
    this.groups = groups
    this.credentials = credentials
    this.revocations = revocations
    this.admission = admission
    this.connections = connections
    this.downlink = new Downlink({ bus, turns, registry, effects, groups, tombstones }, owner)
    this.audit = new Audit({ clock, registry, sessions, effects, groups, metrics, owner, onError }, settings)
    this.lease = new WorkerLease(
      broker,
      clock,
      owner.instance,
      owner.worker,
      {
        lapse: () => {
          metrics.leaseLapses++
          log.warn('the lease of this worker had lapsed: all its sessions are audited')
          this.audit.all()
        },
        error: (error) => onError('lease', error),
      },
      () => ({ host: '', pid: 0, ...options.place, keyring: this.keyring }),
    )
    this.sweep = new Sweep(
      clock,
      turns,
      registry,
      greetings,
      { helloTimeoutMs: settings.helloTimeoutMs, idleMs: settings.keepaliveMs * IDLE_INTERVALS },
      { helloTimeout: (greeting) => connections.refuse(greeting, 'hello_timeout'), tick: (tick) => this.tick(tick) },
    )
    this.collection = new QuietCollection(options.collectGarbage ?? null)
  }

  /** Resolves with the port once devices can connect. */
  async start(): Promise<number> {
    const { broker, sockets } = this.options
    await this.lease.start()
    await this.clock.follow(() => this.lease.askStore())
    await this.revocations.start()
    // Started before the first HELLO: the worker must see every group message that follows a device's CAUGHT_UP.
    await this.groups.start()
    this.downlink.start()
    this.sweep.start()
    this.audit.start()
    this.statusSubscription = broker.onStatus((status) => {
      if (status === 'disconnected') this.metrics.natsLosses++
      if (status === 'reconnected') this.reconnected()
    })
    return sockets.listen(this.connections)
  }

  /** Accepts new devices, or leaves them to the other workers of the port. A worker that leaves never listens again. */
  async setListening(isListening: boolean): Promise<void> {
    const { sockets } = this.options
    if (this.isLeaving) return
    if (isListening) await sockets.listenAgain()
    else sockets.stopListening()
  }

  /**
   * Leaves in this order: the devices are asked to leave, their reports and acknowledgements go to the core, then the
   * lease and the subscriptions end.
   * @param devicesElsewhere the number of devices at the other workers of this instance; null if it is unknown.
   */
  async stop(
    pace = drainPace(this.options.settings, 'shutdown'),
    devicesElsewhere: () => number | null = () => null,
  ): Promise<void> {
    const { sockets } = this.options
    const { clock, turns, registry, effects } = this
    this.isLeaving = true
    this.admission.drain()
    sockets.stopListening()
    this.tombstones.leave()
    await drain({ clock, turns, registry, effects, devicesElsewhere }, pace)
    for (const greeting of this.greetings.all()) this.connections.refuse(greeting, 'going_away')
    this.audit.stop()
    this.sweep.stop()
    this.uplink.flush()
    await this.tombstones.written()
    await this.settlements.allConfirmed(pace.drainGraceMs)
    this.statusSubscription?.unsubscribe()
    this.statusSubscription = null
    this.downlink.stop()
    this.uplink.flush()
    this.settlements.stop()
    await this.groups.stop()
    await this.receipts.stop()
    await this.revocations.stop()
    await clock.stop()
    await this.lease.release()
    sockets.close()
  }

  /** Replaces the keys after a rotation. */
  useKeys(keys: TransportKeys): void {
    this.credentials.useKeys(keys)
    this.keyring = keys.keyring ?? null
    void this.lease.tell()
  }

  levels(): Levels {
    const { registry } = this
    return {
      connections: this.admission.open,
      sessions: registry.size,
      // A getter, because counting walks through all sessions.
      get inFlight() {
        return registry.unacknowledged()
      },
      unsettled: this.settlements.size,
      natsConnected: this.options.broker.connected(),
      leaseHeld: this.lease.isHeld,
    }
  }

  // ---- events ---------------------------------------------------------------------------------

  private tick(tick: number): void {
    this.collection.tick(this.metrics.welcomed, this.admission.open)
    if (tick % DESCRIPTORS_TICKS !== 0) return
    const descriptors = this.options.descriptors()
    if (descriptors !== null) this.admission.descriptorsCounted(descriptors)
  }

  private revoked(device: string): void {
    const session = this.registry.get(device)
    if (session) this.effects.turn(session, 'revocation', () => this.effects.close(session, 'revoked'))
  }

  /** Devices of the fleet enrol again, or come back with a token that was issued later. */
  private cutOff(fleet: string): void {
    for (const session of this.registry.all()) {
      if (session.fleet !== fleet || !this.revocations.isCutOff(fleet, session.tokenIssuedAtMs)) continue
      this.effects.turn(session, 'cut off', () => this.effects.close(session, 'bad_token'))
    }
  }

  /**
   * Messages to this worker were lost meanwhile: every session is audited, and the log of group messages is checked.
   */
  private reconnected(): void {
    this.audit.all()
    this.groups.reconnected()
  }

  /** The devices have to reconnect for a cursor of the new log. */
  private logReplaced(): void {
    this.options.log.warn({}, 'the log of group messages was replaced: all devices are closed and get a new cursor')
    for (const session of this.registry.all()) {
      this.effects.turn(session, 'log replaced', () => this.effects.close(session, 'unavailable', 'log reset'))
    }
  }
}
