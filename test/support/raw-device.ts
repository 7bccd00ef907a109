/** A device that speaks frames and nothing else: tests decide what it says and when. */
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
  /** Everything received so far. */
  readonly received: ServerFrame[] = []
  readonly messages: Uint8Array[] = []
  readonly closed: Promise<ClosedWith>
  /** Frames that `next` has not given out yet. */
  private readonly unread: ServerFrame[] = []
  private wake: () => void = () => {}
  private isClosed = false

  private constructor(readonly ws: WebSocket) {
    ws.binaryType = 'nodebuffer'
    ws.on('message', (data: Buffer) => this.take(data))
    ws.on('error', () => {
      // A close follows, and says the same.
    })
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        this.isClosed = true
        this.wake()
        resolve({ code, reason: reason.toString() })
      })
    })
  }

  /** Resolves with an open connection that has said nothing. */
  static async open(port: number, options: WebSocket.ClientOptions = {}): Promise<RawDevice> {
    const ws = new WebSocket(`ws://127.0.0.1:${port}${DEVICE_PATH}`, options)
    const device = new RawDevice(ws)
    await once(ws, 'open')
    return device
  }

  /** Opens, says HELLO and resolves when CAUGHT_UP came. */
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

  /** All in one WebSocket message. */
  send(...frames: DeviceFrame[]): void {
    this.ws.send(encodeFrames(frames))
  }

  bytes(bytes: Uint8Array): void {
    this.ws.send(bytes)
  }

  /** The next frame that was not given out yet; null after the close. */
  async next(): Promise<ServerFrame | null> {
    while (this.unread.length === 0) {
      if (this.isClosed) return null
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    return this.unread.shift() ?? null
  }

  /** Skips to the next frame of that type. Throws where the connection ends before. */
  async until<T extends ServerFrame['type']>(type: T): Promise<ServerFrame & { type: T }> {
    for (;;) {
      const frame = await this.next()
      if (frame === null) throw new Error(`closed before ${type}: ${JSON.stringify(await this.closed)}`)
      if (frame.type === type) return frame as ServerFrame & { type: T }
    }
  }

  /** Frames received and not given out. */
  get waiting(): readonly ServerFrame[] {
    return this.unread
  }

  /** Without a close frame, as when the network goes. */
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
    if (fault) throw new Error(`the server sent what is no frame: ${fault.detail}`)
    for (const frame of frames) {
      if (frame.type === 'UNKNOWN') continue
      this.received.push(frame)
      this.unread.push(frame)
    }
    this.wake()
  }
}
