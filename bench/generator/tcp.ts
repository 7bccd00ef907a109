/**
 * A TCP connection as node's own `net` has it underneath, without the streams above, which would take most of a generator's
 * memory: for a million devices that decides whether they fit. Node calls these
 * handles internal; they are the same in every version that uWebSockets.js loads on, and only load tools use them.
 */
import { BenchError } from '../scenario.js'

/** Negative numbers are the kernel's errors. */
type Status = number

interface Handle {
  bind(address: string, port: number): Status
  connect(request: object, address: string, port: number): Status
  setNoDelay(on: boolean): Status
  useUserBuffer(buffer: Buffer): void
  readStart(): Status
  readStop(): Status
  writeBuffer(request: object, bytes: Uint8Array): Status
  shutdown(request: object): Status
  close(done: () => void): void
  reset(done: () => void): Status
  onread: () => void
  readonly bytesWritten: number
  owner: TcpConnection
}

interface Requests {
  TCP: new (type: number) => Handle
  TCPConnectWrap: new () => { oncomplete: (status: Status, handle: Handle) => void; address?: string; port?: number }
  constants: { SOCKET: number }
}

interface Streams {
  WriteWrap: new () => WriteRequest
  ShutdownWrap: new () => { oncomplete: () => void }
  kReadBytesOrError: number
  kLastWriteWasAsync: number
  streamBaseState: Int32Array
}

interface WriteRequest {
  oncomplete: (status: Status, handle: Handle) => void
  /** Kept until it is written. */
  buffer: Uint8Array | null
}

type Binding = (name: string) => unknown

const { tcp, streams } = bindings()

function bindings(): { tcp: Requests; streams: Streams } {
  const { binding } = process as unknown as { binding?: Binding }
  const tcp = binding?.('tcp_wrap') as Requests | undefined
  const streams = binding?.('stream_wrap') as Streams | undefined
  if (!tcp?.TCP || !streams?.streamBaseState) throw new BenchError('generators need the sockets of Node 20')
  return { tcp, streams }
}

export interface TcpOwner {
  connected(connection: TcpConnection): void
  /** The bytes are gone when it returns. */
  received(connection: TcpConnection, bytes: Buffer, count: number): void
  /** Once, however it ended, also where it never was. */
  closed(connection: TcpConnection): void
}

export interface TcpTarget {
  /** Addresses are IPv4. */
  from: string
  /** 0, the default: the kernel chooses. */
  fromPort?: number
  host: string
  port: number
}

/** Every socket of a process reads into this one buffer: a read is handled before the next begins. */
const SHARED_BYTES = 256 * 1024
const shared = Buffer.allocUnsafeSlow(SHARED_BYTES)

export class TcpConnection {
  readonly #handle: Handle
  #isClosing = false
  #isEnding = false

  /** The outcome comes later, in every case. */
  constructor(
    readonly owner: TcpOwner,
    { from, fromPort = 0, host, port }: TcpTarget,
  ) {
    const handle = new tcp.TCP(tcp.constants.SOCKET)
    this.#handle = handle
    handle.owner = this
    const request = new tcp.TCPConnectWrap()
    request.oncomplete = onConnected
    const failed = handle.bind(from, fromPort) < 0 || handle.connect(request, host, port) < 0
    if (failed) setImmediate(() => this.destroy())
  }

  get bytesWritten(): number {
    return this.#handle.bytesWritten
  }

  /** What the kernel does not take at once goes out later, in order. The bytes must not change. */
  write(bytes: Uint8Array): void {
    if (this.#isClosing) return
    const request = spareWrite
    const status = this.#handle.writeBuffer(request, bytes)
    if (streams.streamBaseState[streams.kLastWriteWasAsync] !== 0) {
      request.buffer = bytes
      spareWrite = newWrite()
    }
    if (status < 0) this.destroy()
  }

  pause(): void {
    if (!this.#isClosing) this.#handle.readStop()
  }

  resume(): void {
    if (!this.#isClosing) this.#handle.readStart()
  }

  /** After what was written; closed when the other side ends too. */
  end(): void {
    if (this.#isClosing || this.#isEnding) return
    this.#isEnding = true
    const request = new streams.ShutdownWrap()
    request.oncomplete = onShutdown
    if (this.#handle.shutdown(request) < 0) this.destroy()
  }

  /** By reset: no TIME_WAIT is left behind. */
  reset(): void {
    // One that is being shut down cannot be reset any more.
    if (this.#isEnding) this.destroy()
    if (this.#isClosing) return
    this.#isClosing = true
    this.#handle.reset(() => this.owner.closed(this))
  }

  destroy(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    this.#handle.close(() => this.owner.closed(this))
  }

  /** Of the handle's callbacks only. */
  connected(status: Status): void {
    if (this.#isClosing) return
    if (status < 0) {
      this.destroy()
      return
    }
    const handle = this.#handle
    handle.setNoDelay(true)
    handle.useUserBuffer(shared)
    handle.onread = onRead
    handle.readStart()
    this.owner.connected(this)
  }

  received(countOrError: number): void {
    if (countOrError < 0) this.destroy()
    else if (countOrError > 0) this.owner.received(this, shared, countOrError)
  }
}

/** Used again by each write that the kernel took at once, which is nearly every one. */
let spareWrite = newWrite()

function newWrite(): WriteRequest {
  const request = new streams.WriteWrap()
  request.oncomplete = onWritten
  request.buffer = null
  return request
}

function onConnected(status: Status, handle: Handle): void {
  handle.owner.connected(status)
}

function onRead(this: unknown): void {
  ;(this as Handle).owner.received(streams.streamBaseState[streams.kReadBytesOrError] as number)
}

/** An error is told by the read as well. */
function onWritten(): void {}

function onShutdown(): void {}
