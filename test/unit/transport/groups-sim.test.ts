/**
 * Groups on virtual time: real workers on the simulated broker, devices that keep a cursor as PROTOCOL.md requires, and
 * random events. For each seed: a device that was subscribed when a message was accepted receives the message in the
 * end. It never gets a GAP, because this log loses no message.
 */
import t from 'tap'
import { Value } from 'typebox/value'
import { decodeFrames } from '../../../protocol/decode.js'
import { encodeFrame, encodeNotifyGroupBody } from '../../../protocol/encode.js'
import { encodeControlRequest } from '../../../protocol/envelope.js'
import { SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import { Bucket, controlSubject } from '../../../protocol/subjects.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { Keyring } from '../../../src/keyring.js'
import { silentLogger } from '../../../src/observe/log.js'
import { BroadcastLog } from '../../../src/store/broadcast.js'
import { DeviceStore } from '../../../src/store/devices.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import { Worker } from '../../../src/transport/worker.js'
import { SimBroker } from '../../sim/broker.js'
import type { SimClient } from '../../sim/client.js'
import { type DeviceEnd, SimSockets } from './sim-sockets.js'

const SEEDS = Number(process.env.SIM_SEEDS ?? 40)
const STEPS = 60
const TOPICS = ['a', 'b', 'c']
const ISSUER = 'sim'
const keyring = Keyring.generate(0)
const settings: TransportSettings = {
  ...(Value.Default(TransportSettings, {}) as TransportSettings),
  // Little memory, so that messages from the log, from memory and live often meet.
  groupCacheBytesMax: 250,
  catchUpBufferedBytesMax: 100,
  backpressureBytesMax: 2_000,
}

interface Instance {
  broker: SimClient
  sockets: SimSockets
  worker: Worker
}

class World {
  readonly sim: SimBroker
  readonly workers: Instance[] = []
  readonly core: SimClient
  readonly broadcast: BroadcastLog
  readonly devices: DeviceStore
  readonly phones: Phone[]
  messages = 0n
  private started = 0

  constructor(seed: number) {
    this.sim = new SimBroker({ seed })
    this.core = this.sim.brokerFor('core')
    this.broadcast = new BroadcastLog(this.core)
    this.devices = new DeviceStore(this.core.table(Bucket.DEVICES))
    this.phones = [0, 1, 2].map((i) => new Phone(this, `dev_${String(i).padStart(20, '0')}`))
  }

  async startWorker(slot: number): Promise<void> {
    const name = `${slot}-${++this.started}`
    const broker = this.sim.brokerFor(name)
    const delayMs = () => 1 + Math.floor(this.sim.random() * 30)
    const { backpressureBytesMax } = settings
    const sockets = new SimSockets({ clock: this.sim.clock, delayMs, backpressureBytesMax })
    const worker = new Worker({
      ...{ broker, sockets, settings, clock: broker.clock, split: 4, issuer: ISSUER, worker: name },
      ...{
        keys: keyring.transportKeys(),
        connectionsMax: 100,
        descriptors: () => null,
        log: silentLogger,
        lagMs: () => 0,
      },
    })
    this.workers[slot] = { broker, sockets, worker }
    await worker.start()
  }

  async send(topic: string): Promise<void> {
    const id = ++this.messages
    const content = { expiresAtSeconds: 4e9, priority: 'normal', collapseKey: '', title: '', message: '' } as const
    const body = encodeNotifyGroupBody({
      ...content,
      ...{ id, target: { kind: 'topic', name: topic }, project: 'p', data: new Uint8Array() },
    })
    const times = { acceptedAtMs: this.sim.clock.now(), expiresAtMs: 1e15 }
    // Only devices whose subscription is complete are owed the message: with others either outcome is right.
    for (const phone of this.phones) if (phone.topics.has(topic)) phone.owed.push({ id, topic })
    await this.broadcast.append({ id, project: 'p', kind: 'topic', name: topic, collapseKey: '', body, ...times })
  }
}

/** A device as PROTOCOL.md describes it, with its durable state. */
class Phone {
  readonly topics = new Set<string>()
  owed: { id: bigint; topic: string }[] = []
  readonly received = new Set<bigint>()
  readonly gaps: string[] = []
  private cursor: Cursor | null = null
  private connection = 0
  private end: DeviceEnd | null = null
  private token: string | null = null

  constructor(
    private readonly world: World,
    private readonly id: string,
  ) {}

  get isConnected(): boolean {
    return this.end !== null
  }

  connect(slot: number): void {
    this.end?.vanish()
    const end = this.world.workers[slot]?.sockets.connect() ?? null
    this.end = end
    if (!end) return
    end.onMessage = (bytes) => {
      if (this.end !== end) return
      for (const frame of decodeFrames(bytes, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX }).frames) {
        this.take(frame as ServerFrame)
      }
    }
    end.onClosed = () => {
      if (this.end === end) this.end = null
    }
    const nowMs = this.world.sim.clock.now()
    const request = { issuer: ISSUER, device: this.id, fleet: 'f', nowMs, lifetimeMs: 1e9 }
    this.token ??= mintDeviceToken(keyring.signingKey('deviceToken'), request).token
    const credential = { kind: 'token', token: this.token } as const
    const hello = {
      version: 1,
      credential,
      connection: ++this.connection,
      client: null,
      cursor: this.cursor,
      gap: null,
    }
    end.send(encodeFrame({ type: 'HELLO', ...hello }))
  }

  leave(how: 'close' | 'vanish' | 'pause' | 'resume'): void {
    this.end?.[how]()
    if (how === 'close' || how === 'vanish') this.end = null
  }

  /** Does the core's part of SUBSCRIBE or UNSUBSCRIBE, and notifies all workers. */
  async toggleSubscription(topic: string): Promise<void> {
    const { devices, broadcast } = this.world
    const isLeaving = this.topics.delete(topic)
    if (isLeaving) this.owed = this.owed.filter((owed) => owed.topic !== topic || this.received.has(owed.id))
    const since = (await broadcast.log.state()).lastSequence
    await devices.update(this.id, (record) => {
      const version = record.version + 1
      const others = record.topics.filter((one) => one.topic !== topic)
      const added = { registration: 1, project: 'p', topic, since, addedVersion: version }
      return { ...record, version, topics: isLeaving ? others : [...others, added] }
    })
    if (!isLeaving) this.topics.add(topic)
    const body = encodeControlRequest({ kind: 'refresh', device: this.id })
    for (const { worker } of this.world.workers) {
      this.world.core.bus.publish(controlSubject(worker.owner.instance, worker.owner.worker), body)
    }
  }

  missing(): bigint[] {
    return this.owed.filter(({ id }) => !this.received.has(id)).map(({ id }) => id)
  }

  private take(frame: ServerFrame): void {
    switch (frame.type) {
      case 'NOTIFY_GROUP':
        this.received.add(frame.id)
        if (this.cursor && frame.sequence > this.cursor.sequence) {
          this.cursor = { ...this.cursor, sequence: frame.sequence }
        }
        break
      case 'CAUGHT_UP': {
        const { cursor } = frame
        if (!cursor) break
        const isSame = this.cursor?.incarnation === cursor.incarnation
        this.cursor = { ...cursor, sequence: Math.max(cursor.sequence, isSame ? (this.cursor?.sequence ?? 0) : 0) }
        break
      }
      case 'GAP':
        this.gaps.push(frame.reason)
        break
    }
  }
}

async function run(seed: number): Promise<string[]> {
  const world = new World(seed)
  const { sim, phones } = world
  const { clock } = sim
  const draw = (below: number) => Math.floor(sim.random() * below)
  const pick = <T>(from: readonly T[]): T => from[draw(from.length)] as T
  await clock.advanceUntil(Promise.all([world.startWorker(0), world.startWorker(1)]))
  const failures: unknown[] = []
  const later = (work: Promise<void>) => void work.catch((error: unknown) => failures.push(error))

  for (let step = 0; step < STEPS; step++) {
    const phone = pick(phones)
    const slot = draw(2)
    const dice = draw(100)
    if (dice < 40) later(world.send(pick(TOPICS)))
    else if (dice < 60) phone.connect(slot)
    else if (dice < 75) phone.leave(pick(['close', 'vanish', 'pause', 'resume'] as const))
    else if (dice < 88) await clock.advanceUntil(phone.toggleSubscription(pick(TOPICS)))
    else if (dice < 92) world.workers[slot]?.broker.cutOff()
    else if (dice < 94) {
      world.workers[slot]?.sockets.crash()
      world.workers[slot]?.broker.crash()
      await clock.advanceUntil(world.startWorker(slot))
    }
    await clock.advance(pick([0, 1, 5, 20, 100, 2_000]))
  }
  // At the end all devices are connected and stay, and one more message goes to each topic.
  for (const phone of phones) phone.leave('resume')
  await clock.advance(20_000)
  for (let attempt = 0; attempt < 2; attempt++) {
    for (const phone of phones) if (!phone.isConnected) phone.connect(draw(2))
    await clock.advance(20_000)
  }
  for (const topic of TOPICS) later(world.send(topic))
  await clock.advance(20_000)
  const wrong = phones.flatMap((phone, i) => [
    ...phone.missing().map((id) => `phone ${i} misses ${id}`),
    ...phone.gaps.map((reason) => `phone ${i} was told of a gap: ${reason}`),
  ])
  for (const { worker, broker } of world.workers) {
    await clock.advanceUntil(worker.stop())
    await broker.close()
  }
  return [...wrong, ...failures.map(String)]
}

t.test(`with ${SEEDS} seeds each subscriber receives each message and no GAP`, { timeout: 120_000 }, async (t) => {
  const first = Number(process.env.SIM_SEED ?? 1)
  for (let seed = first; seed < first + SEEDS; seed++) {
    const wrong = await run(seed)
    if (wrong.length > 0) t.fail(`seed ${seed}: ${wrong.slice(0, 5).join('; ')}`)
  }
  t.pass('no seed failed')
})
