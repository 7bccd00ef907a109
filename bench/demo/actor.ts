/** A device of the demo with one app on it: counts what the app was given. Its memory outlives its connections. */

import { systemClock } from '../../src/clock.js'
import { wsDial } from '../../src/device/connection/ws-dial.js'
import type { BorealisClient as Client } from '../../src/device/index.js'
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

export class Actor {
  registration: Registration | null = null
  /** Ids of the messages the app was given, in order. */
  readonly given: string[] = []
  /** How many of them were for this device alone. */
  unicast = 0
  /** Messages that were reported as not coming. */
  missed = 0
  private readonly store = new MemoryStateStore()
  private client: Client | null = null
  private line: Line | null = null
  /** The frozen connection, which does not know that it is. */
  private ghost: { client: Client | null; line: Line | null } | null = null

  static async enrolled(at: EnrolAt): Promise<Actor> {
    const actor = new Actor()
    await identify(actor.store, await enrol(at))
    return actor
  }

  get deviceId(): string {
    return this.store.state.identity?.deviceId ?? ''
  }

  get registrationId(): string {
    return this.registration?.registrationId ?? ''
  }

  /** Connects, and resolves once the device is caught up. */
  async connect(): Promise<void> {
    this.line = new Line()
    const client = new BorealisClient({ store: this.store, dial: this.line.dial, random: Math.random })
    this.client = client
    client.on('notification', ({ id, group }) => {
      this.given.push(id)
      if (group === null) this.unicast++
    })
    client.on('gap', ({ count }) => {
      this.missed += count
    })
    const caughtUp = new Promise<void>((resolve, reject) => {
      client.once('caughtUp', () => resolve())
      client.on('closed', ({ code, name, reconnectInMs }) => {
        if (reconnectInMs === null) reject(new Error(`${this.deviceId} was refused: ${code} ${name}`))
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

  /** The network is gone without a word: nothing comes or goes on the socket, and it stays open. */
  freeze(): void {
    this.line?.freeze()
    this.ghost = { client: this.client, line: this.line }
    this.client = null
  }

  /** Ends what freeze left. */
  async hangUp(): Promise<void> {
    this.ghost?.line?.hangUp()
    await this.ghost?.client?.close()
    this.ghost = null
  }
}

/** The way to the server, which can be made to swallow everything. */
class Line {
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
