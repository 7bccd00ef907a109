/** One raw TCP connection to the device port. The caller writes any bytes; the answers are read as HTTP and WebSocket. */
import { connect, type Socket } from 'node:net'
import { reset } from '../../bench/generator/reset.js'
import { closeCode, type FramePosition, Opcode, readServerFrame } from '../../bench/generator/websocket.js'
import { decodeFrames } from '../../protocol/decode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { CUT } from './expected.js'

/** Stands for an end after invalid bytes of the server. No plan expects this code. */
const GARBLED = 0

/** The end of a connection, as the client sees it. */
export interface End {
  /** The close code; 1006 without a close frame. */
  code: number
  /** The status of the HTTP answer; 0 without one. */
  status: number
}

export interface Target {
  host: string
  port: number
}

const HEAD_END = '\r\n\r\n'
const NO_BYTES = Buffer.alloc(0)

export class Wire {
  /** The status of the HTTP answer; 0 before it. */
  status = 0
  /** Resolves when either end has closed the connection. */
  readonly ended: Promise<End>
  /** Null until `ended` is resolved. */
  end: End | null = null
  private readonly socket: Socket
  private rest: Buffer = NO_BYTES
  private readonly position: FramePosition = { opcode: 0, start: 0, end: 0 }
  private settle: (end: End) => void = () => undefined
  private waiting: { isDone: () => boolean; resolve: (isDone: boolean) => void; timer: NodeJS.Timeout } | null = null

  constructor(
    target: Target,
    localAddress: string,
    private readonly onFrame: (frame: ServerFrame) => void = () => undefined,
  ) {
    this.ended = new Promise((resolve) => {
      this.settle = resolve
    })
    this.socket = connect({ ...target, localAddress, noDelay: true })
    this.socket.on('data', (bytes: Buffer) => this.read(bytes))
    // 'close' follows each error and has the same effect.
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => this.finish(CUT))
  }

  write(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes)
  }

  /** Half-closes the connection: nothing more is sent, but answers are read. */
  shut(): void {
    this.socket.end()
  }

  pause(): void {
    this.socket.pause()
  }

  /** Resets the connection, so that no socket stays in the kernel. */
  leave(): void {
    reset(this.socket)
    this.finish(CUT)
  }

  /** Resolves with true when `isDone`, which is checked after each read, or with false after the end or `timeoutMs`. */
  until(isDone: () => boolean, timeoutMs: number): Promise<boolean> {
    if (isDone()) return Promise.resolve(true)
    if (this.end) return Promise.resolve(false)
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake(true), timeoutMs)
      this.waiting = { isDone, resolve, timer }
    })
  }

  upgraded(timeoutMs: number): Promise<boolean> {
    return this.until(() => this.status > 0, timeoutMs).then(() => this.status === 101 && this.end === null)
  }

  private read(bytes: Buffer): void {
    this.rest = this.rest.length > 0 ? Buffer.concat([this.rest, bytes]) : bytes
    if (this.status === 0) this.readHead()
    if (this.status === 101) this.readFrames()
    this.wake(false)
  }

  private readHead(): void {
    const headEnd = this.rest.indexOf(HEAD_END)
    if (headEnd < 0) return
    this.status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(this.rest.toString('latin1', 0, headEnd))?.[1] ?? 0)
    this.rest = this.status === 101 ? this.rest.subarray(headEnd + HEAD_END.length) : NO_BYTES
  }

  private readFrames(): void {
    let at = 0
    const { position } = this
    while (readServerFrame(this.rest, at, this.rest.length, position)) {
      at = position.end
      if (position.opcode === Opcode.CLOSE) {
        const code = closeCode(this.rest, position.start, position.end)
        this.socket.destroy()
        this.finish(code)
        return
      }
      if (position.opcode === Opcode.BINARY) this.take(this.rest.subarray(position.start, position.end))
    }
    this.rest = this.rest.subarray(at)
  }

  private take(message: Buffer): void {
    // An empty message answers an empty message.
    if (message.length === 0) return
    const { frames, fault } = decodeFrames(message, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    if (fault) {
      this.socket.destroy()
      this.finish(GARBLED)
      return
    }
    for (const frame of frames) if (frame.type !== 'UNKNOWN') this.onFrame(frame)
  }

  private wake(isOver: boolean): void {
    const { waiting } = this
    if (!waiting) return
    const isDone = waiting.isDone()
    if (!isDone && !isOver) return
    this.waiting = null
    clearTimeout(waiting.timer)
    waiting.resolve(isDone)
  }

  private finish(code: number): void {
    if (this.end) return
    this.end = { code, status: this.status }
    this.rest = NO_BYTES
    this.settle(this.end)
    this.wake(true)
  }
}
