/** One WebSocket connection that counts every byte in both directions, upgrade and framing included. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import {
  clientFrame,
  type FramePosition,
  Opcode,
  readServerFrame,
  readUpgradeAnswer,
  type UpgradeTarget,
  upgradeRequest,
} from '../generator/websocket.js'
import { BenchError } from '../scenario.js'

export interface Bytes {
  up: number
  down: number
}

const ANSWER_MS_MAX = 10_000

export class WireClient {
  readonly #socket: Socket
  #read: Buffer = Buffer.alloc(0)
  #messages: Buffer[] = []
  #pongs = 0
  #upgraded = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', () => this.#wake())
    socket.on('close', () => this.#wake())
  }

  static async open(target: UpgradeTarget): Promise<WireClient> {
    const socket = connect({ host: target.host, port: target.port })
    const client = new WireClient(socket)
    await once(socket, 'connect')
    socket.write(upgradeRequest(target))
    await client.#until(() => client.#upgraded, 'the upgrade')
    return client
  }

  get bytes(): Bytes {
    return { up: this.#socket.bytesWritten, down: this.#socket.bytesRead }
  }

  send(payload: Uint8Array, opcode: number = Opcode.BINARY): void {
    this.#socket.write(clientFrame(payload, opcode))
  }

  /** Resolves with the next message that `wanted` accepts, and drops those before it. */
  async next(wanted: (message: Buffer) => boolean = () => true): Promise<Buffer> {
    let found: Buffer | undefined
    await this.#until(() => {
      while (this.#messages.length > 0 && !found) {
        const message = this.#messages.shift() as Buffer
        if (wanted(message)) found = message
      }
      return found !== undefined
    }, 'a message')
    return found as Buffer
  }

  async pong(): Promise<void> {
    const before = this.#pongs
    this.send(new Uint8Array(), Opcode.PING)
    await this.#until(() => this.#pongs > before, 'a pong')
  }

  /** Closes the connection. Its bytes are not counted. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return
    const closed = once(this.#socket, 'close')
    this.#socket.destroy()
    await closed
  }

  #take(bytes: Buffer): void {
    this.#read = this.#read.length > 0 ? Buffer.concat([this.#read, bytes]) : bytes
    if (!this.#upgraded) {
      const answer = readUpgradeAnswer(this.#read, this.#read.length)
      if (!answer) return
      if (answer.status !== 101) {
        this.#socket.destroy(new Error(`the server answered the upgrade with ${answer.status}`))
        return
      }
      this.#upgraded = true
      this.#read = this.#read.subarray(answer.end)
    }
    const frame: FramePosition = { opcode: 0, start: 0, end: 0 }
    while (readServerFrame(this.#read, 0, this.#read.length, frame)) {
      if (frame.opcode === Opcode.PONG) this.#pongs++
      else if (frame.opcode !== Opcode.CLOSE) this.#messages.push(this.#read.subarray(frame.start, frame.end))
      this.#read = this.#read.subarray(frame.end)
    }
    this.#wake()
  }

  #until(reached: () => boolean, expected: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (reason: string) => reject(new BenchError(`${expected} did not arrive: ${reason}`))
      const timer = setTimeout(() => fail(`nothing for ${ANSWER_MS_MAX} ms`), ANSWER_MS_MAX)
      this.#wake = () => {
        if (reached()) {
          clearTimeout(timer)
          resolve()
        } else if (this.#socket.destroyed) {
          clearTimeout(timer)
          fail(`the connection is closed (${this.#socket.errored?.message ?? 'by the server'})`)
        }
      }
      this.#wake()
    })
  }
}
