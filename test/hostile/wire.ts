/** One raw TCP connection to the device port: what is written is up to the caller, what comes back is read as RFC 6455 has it. */

import { connect, type Socket } from 'node:net'
import { reset } from '../../bench/generator/reset.js'
import { closeCode, type FramePosition, Opcode, readServerFrame } from '../../bench/generator/websocket.js'
import { decodeFrames } from '../../protocol/decode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { CUT } from './expected.js'

/** The server sent what is no frame: no close code, and none that anybody expects. */
const GARBLED = 0

/** How a connection ended, seen from here. */
export interface End {
  /** 1006: no close frame came. */
  code: number
  /** HTTP status of the answer; 0: there was none. */
  status: number
}

export interface Target {
  host: string
  port: number
}

const HEAD_END = '\r\n\r\n'
const NO_BYTES = Buffer.alloc(0)

export class Wire {
  /** Status of the HTTP answer; 0: none yet. */
  status = 0
  /** Settled when the other end closed, or we left. */
  readonly ended: Promise<End>
  /** Set once `ended` is settled. */
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
    // A close follows, and is all that there is to know.
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => this.finish(CUT))
  }

  write(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes)
  }

  /** Half a close: no more is sent, and what comes is still read. */
  shut(): void {
    this.socket.end()
  }

  pause(): void {
    this.socket.pause()
  }

  /** Away without a word, leaving nothing behind in the kernel. */
  leave(): void {
    reset(this.socket)
    this.finish(CUT)
  }

  /** Resolves true once `isDone`, false after the end or `timeoutMs`. Looked at after everything that is read. */
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
    // The answer to an empty message.
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
