/**
 * An HTTP client that uses little CPU itself, because it shares the machine with the server that it measures. It reads of
 * each answer only the status, the length and the body.
 */
import { connect, type Socket } from 'node:net'

export interface HttpTarget {
  host: string
  port: number
  path: string
  token: string
}

export interface HttpAnswer {
  status: number
  body: string
}

/** Keep-alive connections with at most one request each. A request that finds no free connection waits its turn. */
export class HttpLoad {
  readonly #free: Lane[] = []
  readonly #lanes: Lane[]
  readonly #waiting: (() => void)[] = []
  readonly #head: string

  constructor(target: HttpTarget, sockets: number) {
    const { host, port, path, token } = target
    this.#head = `POST ${path} HTTP/1.1\r\nhost: ${host}:${port}\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: `
    this.#lanes = Array.from({ length: sockets }, () => new Lane(target, (lane) => this.#release(lane)))
    this.#free.push(...this.#lanes)
  }

  /** Rejects if the connection breaks. */
  post(body: string): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const go = () => {
        const lane = this.#free.pop()
        if (lane) lane.ask(`${this.#head}${Buffer.byteLength(body)}\r\n\r\n${body}`, resolve, reject)
        else this.#waiting.push(go)
      }
      go()
    })
  }

  stop(): void {
    for (const lane of this.#lanes) lane.stop()
  }

  #release(lane: Lane): void {
    this.#free.push(lane)
    this.#waiting.shift()?.()
  }
}

const HEAD_END = '\r\n\r\n'

class Lane {
  #socket: Socket | null = null
  #read: Buffer = Buffer.alloc(0)
  #resolve: ((answer: HttpAnswer) => void) | null = null
  #reject: ((error: Error) => void) | null = null

  constructor(
    private readonly target: Pick<HttpTarget, 'host' | 'port'>,
    private readonly onFree: (lane: Lane) => void,
  ) {}

  ask(request: string, resolve: (answer: HttpAnswer) => void, reject: (error: Error) => void): void {
    this.#resolve = resolve
    this.#reject = reject
    this.#socket ??= this.#open()
    this.#socket.write(request)
  }

  stop(): void {
    this.#socket?.destroy()
  }

  #open(): Socket {
    const socket = connect(this.target.port, this.target.host).setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', (error) => this.#broken(error))
    socket.on('close', () => this.#broken(new Error('the connection was closed')))
    return socket
  }

  #take(bytes: Buffer): void {
    this.#read = this.#read.length === 0 ? bytes : Buffer.concat([this.#read, bytes])
    const headEnd = this.#read.indexOf(HEAD_END)
    if (headEnd < 0) return
    const head = this.#read.toString('latin1', 0, headEnd)
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN)
    if (Number.isNaN(length)) {
      this.#broken(new Error('an answer without a length'))
      return
    }
    const from = headEnd + HEAD_END.length
    if (this.#read.length < from + length) return
    const answer = { status: Number(head.slice(9, 12)), body: this.#read.toString('utf8', from, from + length) }
    this.#read = this.#read.subarray(from + length)
    const resolve = this.#resolve
    this.#resolve = null
    this.#reject = null
    this.onFree(this)
    resolve?.(answer)
  }

  #broken(error: Error): void {
    this.#socket?.destroy()
    this.#socket = null
    this.#read = Buffer.alloc(0)
    const reject = this.#reject
    this.#resolve = null
    this.#reject = null
    if (!reject) return
    this.onFree(this)
    reject(error)
  }
}
