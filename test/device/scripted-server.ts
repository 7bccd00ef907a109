/** A transport for tests of the device library: real WebSockets and frames, but the test decides on every answer. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { Close, type CloseName } from '../../protocol/close-codes.js'
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrame, encodeFrames } from '../../protocol/encode.js'
import type { DeviceFrame, NotifyFrame, ServerFrame, WelcomeFrame } from '../../protocol/frame-types.js'

export class ScriptedServer {
  private readonly waiting: ((peer: Peer) => void)[] = []
  private readonly arrived: Peer[] = []
  private refusals: { status: number; retryAfterSeconds: number }[] = []

  private constructor(
    private readonly http: Server,
    private readonly sockets: WebSocketServer,
  ) {}

  static async start(): Promise<ScriptedServer> {
    const http = createServer()
    const sockets = new WebSocketServer({ noServer: true })
    const server = new ScriptedServer(http, sockets)
    http.on('upgrade', (request, socket, head) => {
      const refusal = server.refusals.shift()
      if (refusal) {
        const { status, retryAfterSeconds } = refusal
        socket.end(`HTTP/1.1 ${status} No\r\nRetry-After: ${retryAfterSeconds}\r\nConnection: close\r\n\r\n`)
        return
      }
      sockets.handleUpgrade(request, socket, head, (ws) => server.accept(new Peer(ws)))
    })
    http.listen(0, '127.0.0.1')
    await once(http, 'listening')
    return server
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.http.address() as AddressInfo).port}`
  }

  /** Refuses the next upgrade with this status. */
  refuseNext(status: number, retryAfterSeconds: number): void {
    this.refusals.push({ status, retryAfterSeconds })
  }

  /** Resolves with the next connection. */
  connection(): Promise<Peer> {
    const peer = this.arrived.shift()
    if (peer) return Promise.resolve(peer)
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  /** Resolves with the next connection, after its HELLO was answered with WELCOME. */
  async welcomed(with_: Partial<WelcomeFrame> = {}): Promise<Peer> {
    const peer = await this.connection()
    await peer.next('HELLO')
    peer.send(welcome(with_))
    return peer
  }

  async stop(): Promise<void> {
    for (const ws of this.sockets.clients) ws.terminate()
    this.sockets.close()
    this.http.close()
    this.http.closeAllConnections()
    await once(this.http, 'close')
  }

  private accept(peer: Peer): void {
    const resolve = this.waiting.shift()
    if (resolve) resolve(peer)
    else this.arrived.push(peer)
  }
}

export class Peer {
  readonly frames: DeviceFrame[] = []
  private readonly waiting: { type: string; resolve: (frame: DeviceFrame) => void }[] = []
  private readonly closing: Promise<number>
  private empties = 0
  private wake: () => void = () => {}

  constructor(private readonly ws: WebSocket) {
    this.closing = new Promise((resolve) => ws.on('close', (code) => resolve(code)))
    ws.on('message', (data: Buffer) => {
      if (data.length === 0) {
        this.empties++
        this.wake()
        return
      }
      const { frames, fault } = decodeFrames(data, { from: 'device', frameBytesMax: 16_384 })
      if (fault) throw new Error(fault.detail)
      for (const frame of frames) this.take(frame as DeviceFrame)
    })
  }

  /** Resolves with the next frame of this type. Frames of other types stay in `frames`. */
  async next<T extends DeviceFrame['type']>(type: T): Promise<Extract<DeviceFrame, { type: T }>> {
    const at = this.frames.findIndex((frame) => frame.type === type)
    const frame =
      at >= 0
        ? (this.frames.splice(at, 1)[0] as DeviceFrame)
        : await new Promise<DeviceFrame>((resolve) => this.waiting.push({ type, resolve }))
    return frame as Extract<DeviceFrame, { type: T }>
  }

  /** Resolves at the next empty message (keepalive). */
  async nextEmpty(): Promise<void> {
    while (this.empties === 0) {
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    this.empties--
  }

  send(...frames: ServerFrame[]): void {
    this.ws.send(encodeFrames(frames))
  }

  sendBytes(bytes: Uint8Array): void {
    this.ws.send(bytes)
  }

  sendText(text: string): void {
    this.ws.send(text)
  }

  close(name: CloseName): void {
    this.ws.close(Close[name].code, name)
  }

  terminate(): void {
    this.ws.terminate()
  }

  closed(): Promise<number> {
    return this.closing
  }

  private take(frame: DeviceFrame): void {
    const at = this.waiting.findIndex(({ type }) => type === frame.type)
    if (at < 0) this.frames.push(frame)
    else this.waiting.splice(at, 1)[0]?.resolve(frame)
  }
}

export function welcome(with_: Partial<WelcomeFrame> = {}): WelcomeFrame {
  return {
    type: 'WELCOME',
    serverTimeMs: Date.now(),
    keepaliveSeconds: 60,
    limits: { frameBytesMax: 16_384, window: 64, registrationsMax: 16, topicsMax: 64 },
    subscriptions: 1,
    ticket: new Uint8Array([1, 2, 3]),
    ticketSeconds: 3_600,
    ...with_,
  }
}

export function notify(id: bigint, with_: Partial<NotifyFrame> = {}): NotifyFrame {
  return {
    type: 'NOTIFY',
    id,
    registration: 1,
    expiresAtSeconds: 0,
    priority: 'normal',
    collapseKey: '',
    title: 'title',
    message: `message ${id}`,
    data: new Uint8Array(0),
    ...with_,
  }
}

/** A group message with the content of notify(id). */
export function group(id: bigint, sequence: number): ServerFrame {
  return {
    ...notify(id),
    type: 'NOTIFY_GROUP',
    registrations: [],
    target: { kind: 'app', name: 'app_a' },
    project: 'p',
    sequence,
  }
}

export { encodeFrame }
