/**
 * A TCP connection on the handles below Node's `net`, without its streams. Streams would take most of a generator's memory,
 * and a million devices would not fit. Node calls these handles internal, but they are the same in every version that can
 * load uWebSockets.js, and only this load tool uses them.
 */
import { BenchError } from '../scenario.js'

/** A negative number is an error of the kernel. */
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
  /** Keeps the bytes from being collected before they are written. */
  buffer: Uint8Array | null
}

type Binding = (name: string) => unknown

const { tcp, streams } = bindings()

function bindings(): { tcp: Requests; streams: Streams } {
  const { binding } = process as unknown as { binding?: Binding }
  const tcp = binding?.('tcp_wrap') as Requests | undefined
  const streams = binding?.('stream_wrap') as Streams | undefined
  if (!tcp?.TCP || !streams?.streamBaseState)
    throw new BenchError(
      'this version of Node lacks the internal socket handles that the generators use; Node 20 has them',
    )
  return { tcp, streams }
}

export interface TcpOwner {
  connected(connection: TcpConnection): void
  /** The bytes are overwritten after the return. */
  received(connection: TcpConnection, bytes: Buffer, count: number): void
  /** Called exactly once, also if the connect failed. */
  closed(connection: TcpConnection): void
}

export interface TcpTarget {
  /** Addresses are IPv4. */
  from: string
  /** Default 0: the kernel chooses. */
  fromPort?: number
  host: string
  port: number
}

/** All sockets of a process read into this buffer: the handling of a read ends before the next read. */
const SHARED_BYTES = 256 * 1024
const shared = Buffer.allocUnsafeSlow(SHARED_BYTES)

export class TcpConnection {
  readonly #handle: Handle
  #isClosing = false
  #isEnding = false

  /** Connects. The owner learns the outcome in a later tick, also if it is known at once. */
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

  /** The kernel may take the bytes later, but in order. The caller must not change them. */
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

  /** Ends our side after the pending writes. The connection closes when the other side ends as well. */
  end(): void {
    if (this.#isClosing || this.#isEnding) return
    this.#isEnding = true
    const request = new streams.ShutdownWrap()
    request.oncomplete = onShutdown
    if (this.#handle.shutdown(request) < 0) this.destroy()
  }

  /** Closes with a TCP reset, which leaves no TIME_WAIT. */
  reset(): void {
    // Node cannot reset a socket during its shutdown.
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

  /** Called by the handle only. */
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

/** Reused by each write that the kernel takes at once, as it nearly always does. */
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

/** Ignores errors of writes: the read reports them too. */
function onWritten(): void {}

function onShutdown(): void {}
