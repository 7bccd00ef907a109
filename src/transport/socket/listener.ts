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
import { DEVICE_PATH } from '../../../protocol/frame.js'
import { TrustedPeers } from './peers.js'
import { SameTexts } from './same-text.js'
import type { SendResult, Socket, SocketHandlers, Sockets } from './socket.js'
import { checkTlsFiles } from './tls-files.js'

export interface ListenerOptions {
  host: string
  /** 0: any free one. */
  port: number
  /** PEM files; empty: no TLS. */
  tlsCertificate: string
  tlsKey: string
  /** Addresses and networks whose PROXY header is believed. */
  proxyProtocolFrom: readonly string[]
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

/**
 * The library has the kernel keep 512 connections for a listening socket. Beyond, the kernel drops them without a word, and a
 * device notices after a second, three, seven: so a worker has several, for a crowd that comes in one moment.
 */
const LISTEN_SOCKETS = 4

/** One application of the library: its options, certificates among them, cannot be changed once it is made. */
interface Mounted {
  readonly app: uWS.TemplatedApp
  /** Empty: it does not listen. */
  readonly tokens: us_listen_socket[]
  /** Open connections. */
  open: number
}

export class Listener implements Sockets {
  /** Who accepts. */
  private current: Mounted
  /** With those whose certificates are out of date and whose connections are still open. */
  private readonly mounted = new Set<Mounted>()
  private readonly trusted: TrustedPeers
  private readonly addresses = new SameTexts()
  private handlers: SocketHandlers | null = null
  /** As it turned out to be. */
  private port = 0

  /** Throws where the native part of uWebSockets.js did not load, or the settings do not go together. */
  constructor(private readonly options: ListenerOptions) {
    // Without its binary the package falls back to a server in JavaScript, which has neither this nor our speed.
    if (typeof uWS.SSLApp !== 'function') {
      throw new Error('the native part of uWebSockets.js did not load (needs Node 20 on x64 or arm64, glibc)')
    }
    // A load balancer writes its header before the TLS handshake, and the library looks for it after.
    if (options.tlsCertificate !== '' && options.proxyProtocolFrom.length > 0) {
      throw new Error('transport.proxyProtocolFrom goes with plain connections only: TLS ends at the load balancer')
    }
    this.trusted = new TrustedPeers(options.proxyProtocolFrom)
    this.current = this.make()
  }

  async listen(handlers: SocketHandlers): Promise<number> {
    this.handlers = handlers
    this.serve(this.current, handlers)
    this.port = await this.bind(this.current, this.options.port)
    return this.port
  }

  /**
   * A new application with the files of now listens beside the old one, if that does, then in its place; open connections
   * stay. Rejects, and the old one goes on, where the files are no good or it cannot listen.
   */
  async reloadTls(): Promise<void> {
    const { handlers, current: old } = this
    if (this.options.tlsCertificate === '' || handlers === null) return
    const next = this.make()
    this.serve(next, handlers)
    try {
      if (old.tokens.length > 0) await this.bind(next, this.port)
    } catch (error) {
      this.mounted.delete(next)
      throw error
    }
    this.current = next
    stopAccepting(old)
    this.forgetIfLeft(old)
  }

  refuse(): void {
    stopAccepting(this.current)
  }

  async accept(): Promise<void> {
    if (this.current.tokens.length === 0) await this.bind(this.current, this.port)
  }

  publish(topic: string, bytes: Uint8Array): number {
    let subscribers = 0
    for (const { app } of this.mounted) {
      const here = app.numSubscribers(topic)
      if (here > 0) app.publish(topic, bytes, true)
      subscribers += here
    }
    return subscribers
  }

  close(): void {
    for (const { app } of this.mounted) (app as unknown as Closable).close()
    this.mounted.clear()
  }

  private make(): Mounted {
    const { tlsCertificate, tlsKey } = this.options
    checkTlsFiles(this.options)
    const app = tlsCertificate
      ? uWS.SSLApp({ cert_file_name: tlsCertificate, key_file_name: tlsKey, ssl_prefer_low_memory_usage: true })
      : uWS.App()
    const made = { app, tokens: [], open: 0 }
    this.mounted.add(made)
    return made
  }

  private serve(mounted: Mounted, handlers: SocketHandlers): void {
    const { app } = mounted
    app.ws<UserData>(DEVICE_PATH, {
      maxPayloadLength: MESSAGE_BYTES_MAX,
      maxBackpressure: this.options.backpressureBytesMax,
      // Typed as a number, taken as a boolean. A subscriber that is too slow is closed, never skipped.
      closeOnBackpressureLimit: 1,
      compression: uWS.DISABLED,
      // Keepalive is the device's, and the sweep ours.
      idleTimeout: 0,
      sendPingsAutomatically: false,
      maxLifetime: 0,
      upgrade: (res, req, context) => this.guard('upgrade', () => this.upgrade(res, req, context, handlers)),
      open: (ws) =>
        this.guard('open', () => {
          mounted.open++
          // One that was accepted before a reload, and upgraded after the last connection beside it had left.
          this.mounted.add(mounted)
          open(ws, handlers)
        }),
      message: (ws, message, binary) =>
        this.guard('message', () => handlers.message(ws.getUserData().socket, new Uint8Array(message), binary)),
      drain: (ws) => this.guard('drain', () => handlers.drained(ws.getUserData().socket)),
      close: (ws, code) =>
        this.guard('close', () => {
          mounted.open--
          this.forgetIfLeft(mounted)
          close(ws, code, handlers)
        }),
    })
    app.any('/*', (res) => this.guard('request', () => res.writeStatus('404 Not Found').end('', true)))
  }

  /** One that accepts no more, and whose last connection is gone: nobody is reached through it. */
  private forgetIfLeft(mounted: Mounted): void {
    if (mounted !== this.current && mounted.open === 0) this.mounted.delete(mounted)
  }

  /** All or none. A port that the kernel chose is not to be shared, says the library. */
  private async bind(mounted: Mounted, port: number): Promise<number> {
    const wanted = port === 0 ? 1 : LISTEN_SOCKETS
    let bound = port
    try {
      while (mounted.tokens.length < wanted) bound = await this.bindOne(mounted, bound)
    } catch (error) {
      stopAccepting(mounted)
      throw error
    }
    return bound
  }

  private bindOne({ app, tokens }: Mounted, port: number): Promise<number> {
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

  /** Synchronously: `req` and `res` are gone when this returns. Who it is comes in the first frame. */
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

  private guard(what: string, handle: () => void): void {
    try {
      handle()
    } catch (error) {
      this.options.onError(what, error)
    }
  }
}

const textOf = (bytes: ArrayBuffer) => Buffer.from(bytes).toString('latin1')

function stopAccepting(mounted: Mounted): void {
  for (const token of mounted.tokens.splice(0)) uWS.us_listen_socket_close(token)
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
