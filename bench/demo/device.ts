/** A device of the demo with one app. It counts the messages that the app gets. Its state outlives its connections. */
import { systemClock } from '../../src/clock.js'
import { wsDial } from '../../src/device/connection/ws-dial.js'
import {
  BorealisClient,
  type Dial,
  enrol,
  identify,
  MemoryStateStore,
  type Registration,
} from '../../src/device/index.js'

const WEBSOCKET_BYTES_MAX = 1_048_576

export interface EnrolAt {
  url: string
  enrolmentKey: string
}

export class DemoDevice {
  registration: Registration | null = null
  /** Ids of the messages that the app got, in order. */
  readonly received: string[] = []
  /** Number of them that were for this device alone. */
  unicast = 0
  /** Number of missing messages that GAP frames announced. */
  missed = 0
  private readonly store = new MemoryStateStore()
  private client: BorealisClient | null = null
  private network: Network | null = null
  /** The half-open connection that freeze() left. */
  private frozen: { client: BorealisClient | null; network: Network | null } | null = null

  static async enrolled(at: EnrolAt): Promise<DemoDevice> {
    const device = new DemoDevice()
    await identify(device.store, await enrol(at))
    return device
  }

  get deviceId(): string {
    return this.store.state.identity?.deviceId ?? ''
  }

  get registrationId(): string {
    return this.registration?.registrationId ?? ''
  }

  /** Connects. Resolves when the device has caught up. */
  async connect(): Promise<void> {
    this.network = new Network()
    const client = new BorealisClient({ store: this.store, dial: this.network.dial, random: Math.random })
    this.client = client
    client.on('notification', ({ id, group }) => {
      this.received.push(id)
      if (group === null) this.unicast++
    })
    client.on('gap', ({ count }) => {
      this.missed += count
    })
    const caughtUp = new Promise<void>((resolve, reject) => {
      client.once('caughtUp', () => resolve())
      client.on('closed', ({ code, name, reconnectInMs }) => {
        if (reconnectInMs === null) reject(new Error(`${this.deviceId} was refused with ${code} ${name}`))
      })
    })
    client.connect()
    await caughtUp
  }

  async register(application: string, userToken?: string): Promise<void> {
    if (!this.client) throw new Error('not connected')
    this.registration = await this.client.register(application, userToken ? { userToken } : {})
  }

  async subscribe(topic: string): Promise<void> {
    await this.client?.subscribe(topic)
  }

  async disconnect(): Promise<void> {
    await this.client?.close()
    this.client = null
  }

  /** Cuts the network off: the socket stays open, but nothing passes in either direction. */
  freeze(): void {
    this.network?.freeze()
    this.frozen = { client: this.client, network: this.network }
    this.client = null
  }

  /** Closes the connection that freeze() left. */
  async hangUp(): Promise<void> {
    this.frozen?.network?.hangUp()
    await this.frozen?.client?.close()
    this.frozen = null
  }
}

/** The network between the device and the server. Once frozen, it drops everything. */
class Network {
  private frozen = false
  private readonly sockets: { close(code: number, reason: string): void }[] = []
  private readonly real = wsDial(WEBSOCKET_BYTES_MAX, systemClock)

  readonly dial: Dial = (url, events) => {
    if (this.frozen) return { send() {}, close() {}, pause() {}, resume() {} }
    const socket = this.real(url, {
      opened: () => this.frozen || events.opened(),
      received: (bytes) => this.frozen || events.received(bytes),
      closed: (code, retryAfterMs, detail) => this.frozen || events.closed(code, retryAfterMs, detail),
    })
    this.sockets.push(socket)
    return {
      send: (bytes) => this.frozen || socket.send(bytes),
      close: (code, reason) => this.frozen || socket.close(code, reason),
      pause: () => socket.pause(),
      resume: () => this.frozen || socket.resume(),
    }
  }

  freeze(): void {
    this.frozen = true
  }

  hangUp(): void {
    for (const socket of this.sockets) socket.close(1000, '')
  }
}
