/**
 * Sockets over uWebSockets.js. No other file uses that library.
 *
 * A raw socket throws if it is used after its close, and an exception inside a handler ends the process. So each raw
 * socket has a wrapper that knows whether it is open, and every handler catches.
 */
import uWS, {
  type HttpRequest,
  type HttpResponse,
  type us_listen_socket,
  type us_socket_context_t,
} from 'uWebSockets.js'
import { DEVICE_PATH } from '../../../protocol/frame.js'
import { Networks } from '../../networks.js'
import type { SendResult, Socket, SocketHandlers, Sockets } from './socket.js'
import { checkTlsFiles } from './tls-files.js'

export interface ListenerOptions {
  host: string
  /** 0: any free port. */
  port: number
  /** PEM files; empty: no TLS. */
  tlsCertificate: string
  tlsKey: string
  /** Addresses and networks of the peers whose PROXY header is trusted. */
  proxyProtocolFrom: readonly string[]
  backpressureBytesMax: number
  onError: (task: string, error: unknown) => void
}

/**
 * The library ends the connection of a longer WebSocket message without a close code. This is twice the limit of the
 * protocol, so that a device that exceeds the limit by little gets a close code.
 */
const MESSAGE_BYTES_MAX = 32 * 1024

interface UserData {
  socket: UwsSocket
}
type RawSocket = uWS.WebSocket<UserData>

/** A method that is missing in the library's types. */
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

/**
 * The library sets a backlog of 512 connections for a listening socket. The kernel drops the SYN of further ones, and
 * their devices repeat it after one, three and seven seconds. So a worker has several listening sockets for a crowd
 * that connects at once.
 */
const LISTEN_SOCKETS = 4

/** One application of the library. Its options cannot be changed later, and the certificate is one of them. */
interface ListeningApp {
  readonly app: uWS.TemplatedApp
  /** The listening sockets; empty: the application does not listen. */
  readonly tokens: us_listen_socket[]
  /** The number of open connections. */
  open: number
}

export class Listener implements Sockets {
  /** The application that accepts connections. */
  private current: ListeningApp
  /** `current`, and older applications that have an old certificate and open connections. */
  private readonly apps = new Set<ListeningApp>()
  /**
   * The peers that may speak for other addresses: load balancers, which send a PROXY header (version 2) before the bytes of a
   * device. From any other peer the header would be a way around the limits for each address.
   */
  private readonly trusted: Networks
  private readonly addresses = new InternedTexts()
  private handlers: SocketHandlers | null = null
  /** The bound port. */
  private port = 0

  /** Throws if the native part of uWebSockets.js did not load, or if the settings contradict each other. */
  constructor(private readonly options: ListenerOptions) {
    // Without its binary the package falls back to a slow server in JavaScript, which does not have SSLApp.
    if (typeof uWS.SSLApp !== 'function') {
      throw new Error('the native part of uWebSockets.js did not load (needs Node 20 on x64 or arm64, glibc)')
    }
    // A load balancer sends the PROXY header before the TLS handshake, but the library expects it after the handshake.
    if (options.tlsCertificate !== '' && options.proxyProtocolFrom.length > 0) {
      throw new Error('transport.proxyProtocolFrom works with plain connections only: end TLS at the load balancer')
    }
    this.trusted = new Networks(options.proxyProtocolFrom, 'transport.proxyProtocolFrom')
    this.current = this.make()
  }

  async listen(handlers: SocketHandlers): Promise<number> {
    this.handlers = handlers
    this.serve(this.current, handlers)
    this.port = await this.bind(this.current, this.options.port)
    return this.port
  }

  /**
   * Replaces the application by a new one that reads the certificate files again. Open connections stay with the old
   * one. Rejects if the files are invalid or the new application cannot listen; then the old one goes on.
   */
  async reloadTls(): Promise<void> {
    const { handlers, current: old } = this
    if (this.options.tlsCertificate === '' || handlers === null) return
    const next = this.make()
    this.serve(next, handlers)
    try {
      // Both listen for a moment, so that no connection is refused in between.
      if (old.tokens.length > 0) await this.bind(next, this.port)
    } catch (error) {
      this.apps.delete(next)
      throw error
    }
    this.current = next
    stopAccepting(old)
    this.forgetIfUnused(old)
  }

  stopListening(): void {
    stopAccepting(this.current)
  }

  async listenAgain(): Promise<void> {
    if (this.current.tokens.length === 0) await this.bind(this.current, this.port)
  }

  publish(topic: string, bytesOf: () => Uint8Array): number {
    let subscribers = 0
    for (const { app } of this.apps) {
      const count = app.numSubscribers(topic)
      if (count > 0) app.publish(topic, bytesOf(), true)
      subscribers += count
    }
    return subscribers
  }

  close(): void {
    for (const { app } of this.apps) (app as unknown as Closable).close()
    this.apps.clear()
  }

  private make(): ListeningApp {
    const { tlsCertificate, tlsKey } = this.options
    checkTlsFiles(this.options)
    const app = tlsCertificate
      ? uWS.SSLApp({ cert_file_name: tlsCertificate, key_file_name: tlsKey, ssl_prefer_low_memory_usage: true })
      : uWS.App()
    const listening = { app, tokens: [], open: 0 }
    this.apps.add(listening)
    return listening
  }

  private serve(listening: ListeningApp, handlers: SocketHandlers): void {
    const { app } = listening
    app.ws<UserData>(DEVICE_PATH, {
      maxPayloadLength: MESSAGE_BYTES_MAX,
      maxBackpressure: this.options.backpressureBytesMax,
      // A number in the library's types, a boolean in its code. A subscriber that is too slow is closed, never skipped.
      closeOnBackpressureLimit: 1,
      compression: uWS.DISABLED,
      // The device keeps the connection alive, and the worker's sweep closes silent connections.
      idleTimeout: 0,
      sendPingsAutomatically: false,
      maxLifetime: 0,
      upgrade: (res, req, context) => this.guard('upgrade', () => this.upgrade(res, req, context, handlers)),
      open: (ws) =>
        this.guard('open', () => {
          listening.open++
          // The connection may have been accepted before a reload and upgraded after forgetIfUnused() removed the old
          // application.
          this.apps.add(listening)
          open(ws, handlers)
        }),
      message: (ws, message, binary) =>
        this.guard('message', () => handlers.message(ws.getUserData().socket, new Uint8Array(message), binary)),
      drain: (ws) => this.guard('drain', () => handlers.drained(ws.getUserData().socket)),
      close: (ws, code) =>
        this.guard('close', () => {
          listening.open--
          this.forgetIfUnused(listening)
          close(ws, code, handlers)
        }),
    })
    app.any('/*', (res) => this.guard('request', () => res.writeStatus('404 Not Found').end('', true)))
  }

  /** Removes an old application after its last connection has closed. */
  private forgetIfUnused(listening: ListeningApp): void {
    if (listening !== this.current && listening.open === 0) this.apps.delete(listening)
  }

  /**
   * Opens all listening sockets, or none. The library does not share a port that the kernel chose, so such a port has
   * one listening socket.
   */
  private async bind(listening: ListeningApp, port: number): Promise<number> {
    const wanted = port === 0 ? 1 : LISTEN_SOCKETS
    let bound = port
    try {
      while (listening.tokens.length < wanted) bound = await this.bindOne(listening, bound)
    } catch (error) {
      stopAccepting(listening)
      throw error
    }
    return bound
  }

  private bindOne({ app, tokens }: ListeningApp, port: number): Promise<number> {
    const { host } = this.options
    return new Promise((resolve, reject) => {
      app.listen(host, port, (token) => {
        if (token === false) {
          reject(new Error(`cannot listen on ${host}:${port}`))
          return
        }
        tokens.push(token)
        resolve(uWS.us_socket_local_port(token as unknown as uWS.us_socket))
      })
    })
  }

  /** Has to decide synchronously, because `req` and `res` are invalid afterwards. HELLO identifies the device later. */
  private upgrade(res: HttpResponse, req: HttpRequest, context: us_socket_context_t, handlers: SocketHandlers): void {
    const peer = textOf(res.getRemoteAddressAsText())
    const proxied = textOf(res.getProxiedRemoteAddressAsText())
    if (proxied !== '' && !this.trusted.has(peer)) {
      handlers.distrusted(peer)
      res.writeStatus('403 Forbidden').end('', true)
      return
    }
    const address = this.addresses.of(proxied || peer)
    const retryAfterSeconds = handlers.admit(address)
    if (retryAfterSeconds !== null) {
      res.writeStatus('503 Service Unavailable').writeHeader('Retry-After', String(retryAfterSeconds)).end('', true)
      return
    }
    const header = (name: string) => req.getHeader(`sec-websocket-${name}`)
    const socket = new UwsSocket(address)
    res.upgrade({ socket }, header('key'), header('protocol'), header('extensions'), context)
  }

  private guard(task: string, handle: () => void): void {
    try {
      handle()
    } catch (error) {
      this.options.onError(task, error)
    }
  }
}

/**
 * Keeps one string for many equal ones: all devices behind a NAT or a load balancer have the same address, and each
 * socket would keep a string of its own.
 */
class InternedTexts {
  private static readonly KEPT_MAX = 4_096
  private readonly kept = new Map<string, string>()

  of(text: string): string {
    const known = this.kept.get(text)
    if (known !== undefined) return known
    if (this.kept.size >= InternedTexts.KEPT_MAX) this.kept.clear()
    this.kept.set(text, text)
    return text
  }
}

const textOf = (bytes: ArrayBuffer) => Buffer.from(bytes).toString('latin1')

function stopAccepting(listening: ListeningApp): void {
  for (const token of listening.tokens.splice(0)) uWS.us_listen_socket_close(token)
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
