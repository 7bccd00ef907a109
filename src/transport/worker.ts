/**
 * One transport worker: the parts of this folder on the ports Broker, Clock and Sockets. It holds no socket, timer or
 * connection of its own kind, so that it runs unchanged in the simulation.
 */
import { soleAckId } from '../../protocol/ack.js'
import type { CloseName } from '../../protocol/close-codes.js'
import { readFrames } from '../../protocol/decode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import { WireLimits } from '../../protocol/limits.js'
import { BROADCAST_STREAM, Bucket } from '../../protocol/subjects.js'
import type { TransportKeys } from '../keyring.js'
import { DeviceStore } from '../store/devices.js'
import { EventLog } from '../store/events.js'
import { DeviceQueue } from '../store/queue.js'
import { SessionTable } from '../store/sessions.js'
import { WorkerLease } from '../store/workers.js'
import { Admission } from './admission/admission.js'
import { Credentials } from './admission/credentials.js'
import { Greeting, type GreetingResult, Greetings } from './admission/greeting.js'
import { Handshake } from './admission/handshake.js'
import { Revocations } from './admission/revocations.js'
import { Throughput } from './admission/throughput.js'
import { CatchUps } from './delivery/catch-up.js'
import { Downlink } from './delivery/downlink.js'
import { closeSocket, Effects } from './delivery/effects.js'
import { Settlements } from './delivery/settlements.js'
import { Uplink } from './delivery/uplink.js'
import { Groups } from './groups/groups.js'
import { Receipts } from './groups/receipts.js'
import { type Levels, WorkerMetrics } from './metrics.js'
import { Registry } from './session/registry.js'
import { Session } from './session/session.js'
import { Tombstones } from './session/tombstones.js'
import type { Socket, SocketHandlers } from './socket/socket.js'
import { Turns } from './turns.js'
import { Audit } from './upkeep/audit.js'
import { drain, drainPace } from './upkeep/drain.js'
import { QuietCollection } from './upkeep/quiet-collection.js'
import { Sweep } from './upkeep/sweep.js'
import type { WorkerOptions } from './worker-options.js'

/** How often open descriptors are counted. */
const DESCRIPTORS_TICKS = 5

/** What a worker with a core of its own can do when it is new, about: a first guess, until it was busy once. */
const HANDSHAKES_PER_SECOND = 1_000

const MESSAGE_BYTES_MAX = WireLimits.DEVICE_MESSAGE_BYTES_MAX.value

const RECEIVED = { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX } as const

export class Worker implements SocketHandlers {
  /** Under which name it is found on the bus and in the tables. */
  readonly owner: { readonly instance: string; readonly worker: string }
  readonly metrics = new WorkerMetrics()
  readonly registry = new Registry()
  readonly groups: Groups
  private readonly greetings = new Greetings()
  private readonly turns: Turns
  private readonly admission: Admission
  private readonly credentials: Credentials
  private readonly revocations: Revocations
  private readonly effects: Effects
  private readonly uplink: Uplink
  private readonly settlements: Settlements
  private readonly receipts: Receipts
  private readonly tombstones: Tombstones
  private readonly handshake: Handshake
  private readonly downlink: Downlink
  private readonly audit: Audit
  private readonly sweep: Sweep
  private readonly lease: WorkerLease
  private readonly collection: QuietCollection
  private status: { unsubscribe(): void } | null = null
  private isLeaving = false

  constructor(private readonly options: WorkerOptions) {
    const { broker, clock, sockets, settings, log } = options
    const { metrics, registry } = this
    this.collection = new QuietCollection(options.collect ?? null)
    const owner = { instance: settings.instance, worker: options.worker }
    this.owner = owner
    const onError = (what: string, error: unknown) => log.warn({ what, error }, 'transport')
    const { bus } = broker
    const turns = new Turns(clock, () => this.effects.outbox.flush(), onError)
    const catchUps = new CatchUps(new DeviceQueue(broker, options.split), settings.catchUpsInFlightMax)
    const sessions = new SessionTable(broker.table(Bucket.SESSIONS), clock)
    const devices = new DeviceStore(broker.table(Bucket.DEVICES))
    const tombstones = new Tombstones(sessions, owner, clock, settings, onError)
    const onGivenUp = (device: string) => registry.markUnsettled(device)
    const timeoutMs = settings.coreTimeoutMs
    const uplink = new Uplink(bus, clock, { ...owner, timeoutMs, onError })
    const settlements = new Settlements(bus, clock, metrics, { ...owner, ...settings, timeoutMs, onError, onGivenUp })
    const effects = new Effects(
      {
        window: settings.windowMax,
        held: settings.heldMax,
        requests: settings.requestsInFlightMax,
        framesPerSecond: settings.framesPerSecondMax,
      },
      {
        ...{ turns, registry, catchUps, uplink, settlements, tombstones, metrics, onError },
        onSubscriptionsChanged: (session) => this.groups.refresh(session),
        onEnded: (session) => this.groups.ended(session),
      },
    )
    const receipts = new Receipts(
      new EventLog(broker, options.split, `${owner.instance}.${owner.worker}`),
      clock,
      owner,
      onError,
    )
    const groups = new Groups(
      broker.log(BROADCAST_STREAM),
      {
        ...{ clock, sockets, devices, receipts, onError },
        turn: (work) => turns.run('groups', work),
        forward: (session, frame) => effects.forwardGroup(session, frame),
        sendFrame: (session, frame) => effects.send(session, frame),
        closeUnavailable: (session) => effects.close(session, 'unavailable'),
        closeTooSlow: (session) => effects.close(session, 'too_slow'),
        onLogReplaced: () => this.logReplaced(),
        onPublished: (subscribers, bytes) => {
          metrics.notifiedGroup += subscribers
          metrics.bytesSent += subscribers * bytes
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
    const revocations = new Revocations(broker, (device) => this.revoked(device))
    this.credentials = new Credentials(options.keys, options.issuer)
    const { credentials } = this
    this.turns = turns
    this.effects = effects
    this.uplink = uplink
    this.settlements = settlements
    this.groups = groups
    this.receipts = receipts
    this.tombstones = tombstones
    this.revocations = revocations
    const throughput = new Throughput(HANDSHAKES_PER_SECOND * (options.coreShare ?? 1))
    this.handshake = new Handshake({
      ...{ settings, owner, bus, turns, credentials, revocations, registry, effects },
      ...{ sessions, tombstones, catchUps, devices, groups, metrics, throughput, onError },
    })
    this.admission = new Admission(
      { ...settings, connectionsMax: options.connectionsMax },
      {
        lagMs: options.lagMs,
        greeting: () => this.greetings.young,
        handshaking: () => this.handshake.underWay,
      },
      throughput,
    )
    this.downlink = new Downlink({ bus, turns, registry, effects, groups, tombstones }, owner)
    this.audit = new Audit({ clock, registry, sessions, effects, groups, metrics, owner, onError }, settings)
    this.lease = new WorkerLease(broker, clock, owner.instance, owner.worker, {
      lapse: () => {
        metrics.leaseLapses++
        log.warn('the lease had lapsed: all sessions are looked at')
        this.audit.all()
      },
      error: (error) => onError('lease', error),
    })
    this.sweep = new Sweep(
      clock,
      turns,
      registry,
      this.greetings,
      { helloTimeoutMs: settings.helloTimeoutMs, idleMs: settings.keepaliveMs * 1.5 },
      { helloTimeout: (greeting) => this.refuse(greeting, 'hello_timeout'), tick: (tick) => this.measure(tick) },
    )
  }

  /** Resolves with the port once devices can connect. */
  async start(): Promise<number> {
    const { broker, sockets } = this.options
    await this.lease.start()
    await this.revocations.start()
    // Before the first HELLO: what is sent to a group after a device was told that it is caught up has to pass here.
    await this.groups.start()
    this.downlink.start()
    this.sweep.start()
    this.audit.start()
    this.status = broker.onStatus((status) => {
      if (status === 'disconnected') this.metrics.natsLosses++
      if (status === 'reconnected') this.reconnected()
    })
    return sockets.listen(this)
  }

  /** Whether new devices are to come here, or to others of the port. One that leaves takes nobody any more. */
  async accept(isOpen: boolean): Promise<void> {
    const { sockets } = this.options
    if (this.isLeaving) return
    if (isOpen) await sockets.accept()
    else sockets.refuse()
  }

  /**
   * In order: devices leave, what they said is passed on, then the lease and the subscriptions go.
   * @param elsewhere how many devices the other workers of this instance have; null: not known.
   */
  async stop(
    pace = drainPace(this.options.settings, 'shutdown'),
    elsewhere: () => number | null = () => null,
  ): Promise<void> {
    const { clock, sockets } = this.options
    const { turns, registry, effects } = this
    this.isLeaving = true
    this.admission.drain()
    sockets.refuse()
    this.tombstones.leave()
    await drain({ clock, turns, registry, effects, elsewhere }, pace)
    for (const greeting of this.greetings.all()) this.refuse(greeting, 'going_away')
    this.audit.stop()
    this.sweep.stop()
    this.uplink.flush()
    await this.tombstones.written()
    await this.settlements.allConfirmed(pace.drainGraceMs)
    this.status?.unsubscribe()
    this.status = null
    this.downlink.stop()
    this.uplink.flush()
    this.settlements.stop()
    await this.groups.stop()
    await this.receipts.write()
    await this.revocations.stop()
    await this.lease.release()
    sockets.close()
  }

  /** Those of a keyring that was rotated. */
  useKeys(keys: TransportKeys): void {
    this.credentials.use(keys)
  }

  levels(): Levels {
    const { registry } = this
    return {
      connections: this.admission.open,
      sessions: registry.size,
      // A walk over all sessions, for who asks for it.
      get inFlight() {
        return registry.unacknowledged()
      },
      unsettled: this.settlements.size,
      natsConnected: this.options.broker.connected(),
      leaseHeld: this.lease.isHeld,
    }
  }

  // ---- sockets --------------------------------------------------------------------------------

  admit(address: string): number | null {
    const { tick } = this.turns.now
    const refusal = this.admission.admit(address, { ms: this.options.clock.now(), tick })
    if (refusal === null) return null
    this.metrics.refused(refusal.reason)
    return refusal.retryAfterSeconds
  }

  distrusted(peer: string): void {
    this.metrics.refused('distrusted')
    // Once, not for each: it may be a load balancer that is missing in the settings, or somebody who tries.
    if (this.metrics.refusals.get('distrusted') === 1) {
      this.options.log.warn({ peer }, 'a PROXY header of a peer that is not in transport.proxyProtocolFrom: refused')
    }
  }

  opened(socket: Socket): void {
    this.admission.opened(socket.address)
    const greeting = new Greeting(socket, this.turns.now.tick, this.options.settings.framesPerSecondMax)
    socket.owner = greeting
    this.greetings.add(greeting)
  }

  message(socket: Socket, bytes: Uint8Array, binary: boolean): void {
    this.metrics.bytesReceived += bytes.length
    this.turns.enter()
    try {
      const session = binary && socket.owner instanceof Session ? socket.owner : null
      const id = session && soleAckId(bytes)
      if (session && id !== null) session.ack(id, this.turns.now)
      else if (session && bytes.length === 0) session.emptyMessage(this.turns.now)
      else this.read(socket, bytes, binary)
    } catch (error) {
      this.options.log.warn({ what: 'message', error }, 'transport')
      this.shut(socket, 'internal')
    } finally {
      this.turns.leave()
    }
  }

  drained(socket: Socket): void {
    if (socket.owner instanceof Session) this.groups.drained(socket.owner)
  }

  closed(socket: Socket): void {
    this.admission.closed(socket.address)
    const { owner } = socket
    this.turns.run('closed', () => {
      if (owner instanceof Session) this.effects.endSession(owner, 'network')
      else if (owner instanceof Greeting && this.greetings.remove(owner)) this.metrics.closed('network')
    })
  }

  private read(socket: Socket, bytes: Uint8Array, binary: boolean): void {
    if (!binary) {
      this.shut(socket, 'protocol_error', 'a text message')
      return
    }
    if (bytes.length > MESSAGE_BYTES_MAX) {
      this.shut(socket, 'frame_too_large', `a message of ${bytes.length} bytes`)
      return
    }
    const fault = readFrames(bytes, RECEIVED, (frame) => {
      const { owner } = socket
      if (owner instanceof Session) {
        owner.frame(frame, this.turns.now)
        return owner.state !== 'closed'
      }
      return owner instanceof Greeting && this.greet(owner, owner.frame(frame))
    })
    if (fault) this.shut(socket, fault.code, fault.detail)
  }

  /** False where the rest of the message is not to be read. */
  private greet(greeting: Greeting, result: GreetingResult): boolean {
    switch (result.next) {
      case 'wait':
        return true
      case 'refuse':
        this.refuse(greeting, result.reason, result.detail)
        return false
      case 'hello':
        this.greetings.remove(greeting)
        this.handshake.begin(greeting, result.hello)
        return greeting.socket.owner instanceof Session
    }
  }

  private refuse(greeting: Greeting, reason: CloseName, detail = ''): void {
    if (!this.greetings.remove(greeting)) return
    this.metrics.closed(reason)
    closeSocket(greeting.socket, reason, detail)
  }

  /** Closes whoever it is. */
  private shut(socket: Socket, reason: CloseName, detail = ''): void {
    const { owner } = socket
    if (owner instanceof Session) {
      this.effects.close(owner, reason, detail)
      return
    }
    if (owner instanceof Greeting) this.greetings.remove(owner)
    this.metrics.closed(reason)
    closeSocket(socket, reason, detail)
  }

  // ---- the rest of the world ------------------------------------------------------------------

  private measure(tick: number): void {
    this.collection.tick(this.metrics.welcomed, this.admission.open)
    if (tick % DESCRIPTORS_TICKS !== 0) return
    const descriptors = this.options.descriptors()
    if (descriptors !== null) this.admission.measured(descriptors)
  }

  private revoked(device: string): void {
    const session = this.registry.get(device)
    if (session) this.effects.turn(session, 'revoked', () => this.effects.close(session, 'revoked'))
  }

  /** What was said to this worker meanwhile is lost: look at everything, and whether the log is still the same. */
  private reconnected(): void {
    this.audit.all()
    this.groups.reconnected()
  }

  /** Devices come back for a cursor of the log that is there now. */
  private logReplaced(): void {
    this.options.log.warn({}, 'the log of group messages was made anew: devices come back for a new cursor')
    for (const session of this.registry.all()) {
      this.effects.turn(session, 'log replaced', () => this.effects.close(session, 'unavailable', 'log reset'))
    }
  }
}
