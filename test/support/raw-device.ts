/** A device without the device library: the test decides the frames that it sends, and when. */
import { once } from 'node:events'
import WebSocket from 'ws'
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrames } from '../../protocol/encode.js'
import { DEVICE_PATH, SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { DeviceFrame, HelloFrame, ServerFrame } from '../../protocol/frame-types.js'

export interface ClosedWith {
  code: number
  reason: string
}

export class RawDevice {
  /** All frames received so far. */
  readonly received: ServerFrame[] = []
  readonly messages: Uint8Array[] = []
  readonly closed: Promise<ClosedWith>
  /** Frames that `next` has not returned yet. */
  private readonly unread: ServerFrame[] = []
  private wake: () => void = () => {}
  private isClosed = false

  private constructor(readonly ws: WebSocket) {
    ws.binaryType = 'nodebuffer'
    ws.on('message', (data: Buffer) => this.take(data))
    ws.on('error', () => {
      // The close event follows and settles `closed`.
    })
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        this.isClosed = true
        this.wake()
        resolve({ code, reason: reason.toString() })
      })
    })
  }

  /** Resolves with an open connection on which nothing was sent. */
  static async open(port: number, options: WebSocket.ClientOptions = {}): Promise<RawDevice> {
    const ws = new WebSocket(`ws://127.0.0.1:${port}${DEVICE_PATH}`, options)
    const device = new RawDevice(ws)
    await once(ws, 'open')
    return device
  }

  /** Opens a connection, sends HELLO and resolves after CAUGHT_UP. */
  static async connected(port: number, hello: Partial<HelloFrame>): Promise<RawDevice> {
    const device = await RawDevice.open(port)
    device.hello(hello)
    await device.until('WELCOME')
    await device.until('CAUGHT_UP')
    return device
  }

  hello(hello: Partial<HelloFrame>): void {
    const client = { name: 'raw', version: '1', platform: 'test' }
    this.send({ type: 'HELLO', version: 1, credential: null, connection: 1, cursor: null, gap: null, client, ...hello })
  }

  /** Sends all frames in one WebSocket message. */
  send(...frames: DeviceFrame[]): void {
    this.ws.send(encodeFrames(frames))
  }

  bytes(bytes: Uint8Array): void {
    this.ws.send(bytes)
  }

  /** Resolves with the next frame that was not returned yet, or with null after the close. */
  async next(): Promise<ServerFrame | null> {
    while (this.unread.length === 0) {
      if (this.isClosed) return null
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    return this.unread.shift() ?? null
  }

  /** Skips to the next frame of that type. Throws if the connection closes first. */
  async until<T extends ServerFrame['type']>(type: T): Promise<ServerFrame & { type: T }> {
    for (;;) {
      const frame = await this.next()
      if (frame === null) throw new Error(`closed before ${type}: ${JSON.stringify(await this.closed)}`)
      if (frame.type === type) return frame as ServerFrame & { type: T }
    }
  }

  /** Frames that were received and not returned yet. */
  get waiting(): readonly ServerFrame[] {
    return this.unread
  }

  /** Ends the connection without a close frame, as a lost network does. */
  cut(): void {
    this.ws.terminate()
  }

  private take(data: Buffer): void {
    this.messages.push(data)
    if (data.length === 0) {
      this.wake()
      return
    }
    const { frames, fault } = decodeFrames(data, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    if (fault) throw new Error(`the server sent bytes that are not a frame: ${fault.detail}`)
    for (const frame of frames) {
      if (frame.type === 'UNKNOWN') continue
      this.received.push(frame)
      this.unread.push(frame)
    }
    this.wake()
  }
}
