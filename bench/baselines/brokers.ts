/** mosquitto and nats-server as sides: brokers that a user might choose instead, with devices over WebSocket. */
import { once } from 'node:events'
import { type Socket, connect as tcpConnect } from 'node:net'
import { type NatsConnection, connect as natsConnect } from 'nats'
import { groupFrame, NotifyFrames } from '../content.js'
import type { Feed } from '../drive.js'
import { TOPIC_ALL, topicOf } from '../generator/dialects/mqtt.js'
import { connectPacket, Packet, PINGREQ, publishPacket, readPacket } from '../generator/dialects/mqtt-packets.js'
import { SUBJECT_ALL, subjectOf } from '../generator/dialects/nats.js'
import { Generators } from '../generator/generators.js'
import type { Bench } from '../scenario.js'
import { newSequences, type Side, type SideOptions } from '../sides.js'
import { startMosquitto } from './mosquitto.js'
import { startPlainNats } from './plain-nats.js'

const LIFETIME_SECONDS = 600
const POLL_MS = 5

/** A broker does not report deliveries to its publisher, so this feed polls the generators for them. */
abstract class CountedFeed implements Feed {
  answered = 0
  protected readonly frames = new NotifyFrames(1, Math.floor(Date.now() / 1000) + LIFETIME_SECONDS)
  #nextId = 1n
  #stopped = false

  constructor(devices: Generators) {
    void this.#follow(devices)
  }

  abstract publish(index: number, frame: Buffer): void
  abstract flush(): void

  send(index: number, sequence: number, intendedMicros: number): void {
    this.publish(index, this.frames.make(this.#nextId++, sequence, intendedMicros))
  }

  stop(): void {
    this.#stopped = true
  }

  async #follow(devices: Generators): Promise<void> {
    while (!this.#stopped) {
      // The generators have ended, and this feed ends with them.
      const counts = await devices.counts().catch(() => null)
      if (!counts) return
      this.answered = counts.delivered
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
}

/** A broker may read slowly from a single connection. Several publishers keep that out of the measurement. */
const MQTT_PUBLISHERS = 64

class MqttFeed extends CountedFeed {
  #packetId = 0
  readonly #packets: Buffer[][]

  constructor(
    devices: Generators,
    private readonly publishers: readonly Socket[],
  ) {
    super(devices)
    this.#packets = publishers.map(() => [])
  }

  /** All messages to a device go through the same publisher, so they keep their order. */
  publish(index: number, frame: Buffer): void {
    this.#packetId = (this.#packetId % 65_535) + 1
    const packets = this.#packets[index % this.publishers.length]
    packets?.push(publishPacket(topicOf(index), frame, 1, this.#packetId))
  }

  flush(): void {
    for (const [n, publisher] of this.publishers.entries()) {
      const packets = this.#packets[n]?.splice(0) ?? []
      if (packets.length > 0) publisher.write(Buffer.concat(packets))
    }
  }
}

class NatsFeed extends CountedFeed {
  constructor(
    devices: Generators,
    private readonly nats: NatsConnection,
  ) {
    super(devices)
  }

  publish(index: number, frame: Buffer): void {
    this.nats.publish(subjectOf(index), frame, { reply: 'answers' })
  }

  /** The NATS client flushes by itself. */
  flush(): void {}
}

export async function mosquittoSide(bench: Bench, { connections, generators }: SideOptions): Promise<Side> {
  const broker = await startMosquitto(bench)
  const devices = await devicesAt(bench, 'mqtt', broker.webSocketPort, '/mqtt', connections, generators)
  const publishers: Socket[] = []
  for (let n = 0; n < MQTT_PUBLISHERS; n++) publishers.push(await mqttPublisher(bench, broker.tcpPort, n))
  return {
    name: 'mosquitto',
    version: broker.version,
    connections,
    devices,
    ...newSequences(),
    serverPids: [broker.pid],
    behindPids: [],
    feed: async () => stopping(bench, new MqttFeed(devices, publishers)),
    broadcast: async (sequence, micros) =>
      publishers[0]?.write(publishPacket(TOPIC_ALL, groupFrame(sequence, micros), 0, 0)),
    behave: async () => undefined,
  }
}

export async function natsSide(bench: Bench, { connections, generators }: SideOptions): Promise<Side> {
  const server = await startPlainNats(bench, { webSocket: true })
  const devices = await devicesAt(bench, 'nats', server.webSocketPort, '/', connections, generators)
  const nats = await natsConnect({ servers: server.url, noAsyncTraces: true })
  bench.defer(() => nats.close())
  // A router subscribes to answers, so this side does as well.
  nats.subscribe('answers', { callback: () => undefined })
  return {
    name: 'nats-server',
    version: nats.info?.version ?? '',
    connections,
    devices,
    ...newSequences(),
    serverPids: [server.pid],
    behindPids: [],
    feed: async () => stopping(bench, new NatsFeed(devices, nats)),
    broadcast: async (sequence, micros) => nats.publish(SUBJECT_ALL, groupFrame(sequence, micros)),
    behave: async () => undefined,
  }
}

function stopping<F extends CountedFeed>(bench: Bench, feed: F): F {
  bench.defer(() => feed.stop())
  return feed
}

async function devicesAt(
  bench: Bench,
  kind: 'mqtt' | 'nats',
  port: number,
  path: string,
  connections: number,
  processes: number,
): Promise<Generators> {
  const target = { host: '127.0.0.1', port, path }
  const dialect = { kind, run: `${kind}0000` }
  const options = { target, dialect, connections, processes, keepaliveMs: 0 }
  const devices = await Generators.start(options, bench.progress)
  bench.defer(() => devices.stop())
  return devices
}

const PING_MS = 20_000

/** Reads the broker's PUBACKs and drops them: only the broker's part of QoS 1 is measured. */
async function mqttPublisher(bench: Bench, port: number, n: number): Promise<Socket> {
  const socket = tcpConnect({ host: '127.0.0.1', port, noDelay: true })
  await once(socket, 'connect')
  socket.write(connectPacket({ clientId: `bench-publisher-${n}`, clean: true, keepaliveSeconds: 60 }))
  const [answer] = (await once(socket, 'data')) as [Buffer]
  if (readPacket(answer, 0, answer.length)?.type !== Packet.CONNACK) throw new Error('mosquitto refused the publisher')
  socket.on('data', () => undefined)
  const ping = setInterval(() => socket.write(PINGREQ), PING_MS)
  bench.defer(() => {
    clearInterval(ping)
    socket.destroy()
  })
  return socket
}
