/** Opens a device's WebSocket with the `ws` package. */
import { rootCertificates } from 'node:tls'
import { type ClientOptions, WebSocket } from 'ws'
import { DEVICE_PATH } from '../../../protocol/frame.js'
import type { Clock } from '../../clock.js'
import type { DeviceSocket, Dial, SocketEvents } from './dial.js'

/** A peer that does not answer the close frame within this time is disconnected. */
const CLOSE_WAIT_MS = 1_000
/** WebSocket close code of a connection that ended without a close frame. */
const ABNORMAL = 1006
/** A message that the decoder refuses: a frame of length 0. */
const INVALID_FRAME = Uint8Array.of(0)

/** @param ca PEM certificates to trust in addition to Node's. */
export function wsDial(webSocketBytesMax: number, clock: Clock, ca?: string): Dial {
  const trust = ca === undefined ? {} : { ca: [...rootCertificates, ca] }
  const options = { perMessageDeflate: false, maxPayload: webSocketBytesMax, followRedirects: false, ...trust }
  return (url, events) => {
    try {
      return open(deviceUrl(url), events, options, clock)
    } catch (error) {
      // The URL and WebSocket constructors throw on an invalid address.
      const reason = error instanceof Error ? error.message : String(error)
      Promise.resolve().then(() => events.closed(ABNORMAL, 0, reason))
      return { send: nothing, close: nothing, pause: nothing, resume: nothing }
    }
  }
}

/** Adds the path of the device port to an address without a path. */
export function deviceUrl(url: string): string {
  const parsed = new URL(url)
  if (parsed.pathname === '/') parsed.pathname = DEVICE_PATH
  return parsed.href
}

function open(url: string, events: SocketEvents, options: ClientOptions, clock: Clock): DeviceSocket {
  const ws = new WebSocket(url, options)
  let retryAfterMs = 0
  let detail = ''
  let cancelCut = nothing
  ws.on('open', () => events.opened())
  ws.on('message', (data: Buffer, isBinary) => {
    // A text message violates the protocol, even an empty one. The machine closes the connection for these bytes.
    events.received(isBinary ? data : INVALID_FRAME)
  })
  ws.on('unexpected-response', (_request, response) => {
    const seconds = Number(response.headers['retry-after'])
    retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : 0
    detail = `HTTP ${response.statusCode ?? 0}`
    ws.terminate()
  })
  ws.on('error', (error) => {
    if (detail === '') detail = reasonOf(error)
  })
  ws.on('close', (code, reason) => {
    cancelCut()
    events.closed(code, retryAfterMs, detail || reason.toString())
  })
  return {
    send(bytes) {
      if (ws.readyState === WebSocket.OPEN) ws.send(bytes)
    },
    close(code, reason) {
      if (ws.readyState === WebSocket.CLOSED) return
      cancelCut()
      cancelCut = clock.after(CLOSE_WAIT_MS, () => ws.terminate())
      ws.close(code, reason)
    },
    pause() {
      ws.pause()
    },
    resume() {
      ws.resume()
    },
  }
}

/** If all addresses of a host fail, Node reports an AggregateError without a message. */
function reasonOf(error: Error): string {
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  return first instanceof Error ? first.message : String(first)
}

function nothing(): void {}
