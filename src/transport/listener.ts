/**
 * The Sockets port over uWebSockets.js: the only file that knows it.
 *
 * One wrapper owns each raw socket. A raw socket used after its close throws, and a throw inside a handler ends the
 * process: so the wrapper knows when it is closed, and every handler catches.
 */
import uWS, {
  type HttpRequest,
  type HttpResponse,
  type us_listen_socket,
  type us_socket_context_t,
} from 'uWebSockets.js'
import { DEVICE_PATH } from '../../protocol/frame.js'
import type { SendResult, Socket, SocketHandlers, Sockets } from './socket.js'

export interface ListenerOptions {
  host: string
  /** 0: any free one. */
  port: number
  /** PEM files; empty: no TLS. */
  tlsCertificate: string
  tlsKey: string
  backpressureBytesMax: number
  onError: (what: string, error: unknown) => void
}

/**
 * Longest WebSocket message that reaches us; a longer one is cut off by the library without a code. Twice what the
 * protocol allows, so that a device that exceeds it by little learns why.
 */
const MESSAGE_BYTES_MAX = 32 * 1024

interface UserData {
  socket: UwsSocket
}
type RawSocket = uWS.WebSocket<UserData>

/** Absent from the library's types. */
interface Closable {
  close(): void
}

class UwsSocket implements Socket {
  owner: unknown = null
  /** Null before the open and after the close. */
  raw: RawSocket | null = null

  constructor(readonly address: string) {}

  send(bytes: Uint8Array): SendResult {
    if (this.raw === null) return 'dropped'
    const result = this.raw.send(bytes, true)
    return result === 1 ? 'sent' : result === 0 ? 'buffered' : 'dropped'
  }

  buffered(): number {
    return this.raw?.getBufferedAmount() ?? 0
  }

  end(code: number, reason: string): void {
    this.raw?.end(code, reason)
  }

  subscribe(topic: string): void {
    this.raw?.subscribe(topic)
  }

  unsubscribe(topic: string): void {
    this.raw?.unsubscribe(topic)
  }

  topics(): string[] {
    return this.raw?.getTopics() ?? []
  }
}

export class Listener implements Sockets {
  private readonly app: uWS.TemplatedApp
  private token: us_listen_socket | null = null

  /** Throws where the native part of uWebSockets.js did not load. */
  constructor(private readonly options: ListenerOptions) {
    // Without its binary the package falls back to a server in JavaScript, which has neither this nor our speed.
    if (typeof uWS.SSLApp !== 'function') {
      throw new Error('the native part of uWebSockets.js did not load (needs Node 20 on x64 or arm64, glibc)')
    }
    const { tlsCertificate, tlsKey } = options
    this.app = tlsCertificate
      ? uWS.SSLApp({ cert_file_name: tlsCertificate, key_file_name: tlsKey, ssl_prefer_low_memory_usage: true })
      : uWS.App()
  }

  listen(handlers: SocketHandlers): Promise<number> {
    const { host, port, backpressureBytesMax } = this.options
    this.app.ws<UserData>(DEVICE_PATH, {
      maxPayloadLength: MESSAGE_BYTES_MAX,
      maxBackpressure: backpressureBytesMax,
      // Typed as a number, taken as a boolean. A subscriber that is too slow is closed, never skipped.
      closeOnBackpressureLimit: 1,
      compression: uWS.DISABLED,
      // Keepalive is the device's, and the sweep ours.
      idleTimeout: 0,
      sendPingsAutomatically: false,
      maxLifetime: 0,
      upgrade: (res, req, context) => this.guard('upgrade', () => upgrade(res, req, context, handlers)),
      open: (ws) => this.guard('open', () => open(ws, handlers)),
      message: (ws, message, binary) =>
        this.guard('message', () => handlers.message(ws.getUserData().socket, new Uint8Array(message), binary)),
      drain: (ws) => this.guard('drain', () => handlers.drained(ws.getUserData().socket)),
      close: (ws, code) => this.guard('close', () => close(ws, code, handlers)),
    })
    this.app.any('/*', (res) => this.guard('request', () => res.writeStatus('404 Not Found').end('', true)))
    return new Promise((resolve, reject) => {
      this.app.listen(host, port, (token) => {
        if (token === false) {
          reject(new Error(`cannot listen on ${host}:${port}`))
          return
        }
        this.token = token
        resolve(uWS.us_socket_local_port(token as unknown as uWS.us_socket))
      })
    })
  }

  refuse(): void {
    if (this.token) uWS.us_listen_socket_close(this.token)
    this.token = null
  }

  publish(topic: string, bytes: Uint8Array): number {
    const subscribers = this.app.numSubscribers(topic)
    if (subscribers > 0) this.app.publish(topic, bytes, true)
    return subscribers
  }

  close(): void {
    this.token = null
    ;(this.app as unknown as Closable).close()
  }

  private guard(what: string, handle: () => void): void {
    try {
      handle()
    } catch (error) {
      this.options.onError(what, error)
    }
  }
}

/** Synchronously: `req` and `res` are gone when this returns. Who it is comes in the first frame. */
function upgrade(res: HttpResponse, req: HttpRequest, context: us_socket_context_t, handlers: SocketHandlers): void {
  const address = Buffer.from(res.getRemoteAddressAsText()).toString('latin1')
  const retryAfterSeconds = handlers.admit(address)
  if (retryAfterSeconds !== null) {
    res.writeStatus('503 Service Unavailable').writeHeader('Retry-After', String(retryAfterSeconds)).end('', true)
    return
  }
  const header = (name: string) => req.getHeader(`sec-websocket-${name}`)
  const socket = new UwsSocket(address)
  res.upgrade({ socket }, header('key'), header('protocol'), header('extensions'), context)
}

function open(ws: RawSocket, handlers: SocketHandlers): void {
  const { socket } = ws.getUserData()
  socket.raw = ws
  handlers.opened(socket)
}

function close(ws: RawSocket, code: number, handlers: SocketHandlers): void {
  const { socket } = ws.getUserData()
  socket.raw = null
  handlers.closed(socket, code)
}
