/** Bare uWebSockets.js: no sessions, no protocol. What any server on it costs at least. */

import uWS, { type TemplatedApp, type us_listen_socket, type WebSocket } from 'uWebSockets.js'
import { connect } from 'nats'
import { serve } from '../generator/rpc.js'
import { Answers } from './answers.js'
import { BROADCAST_SUBJECT, FEED_SUBJECT, readFeed } from './feed.js'

const TOPIC = 'all'
/** In an ACK of one id: length, type, tag, bytes. */
const ID_AT = 4

interface Client {
  connection: number
}

const clients: (WebSocket<Client> | null)[] = []
let answers: Answers | null = null
let subscribe = false

const app: TemplatedApp = uWS.App().ws<Client>('/*', {
  compression: 0,
  maxPayloadLength: 16 * 1024,
  maxBackpressure: 1024 * 1024,
  idleTimeout: 960,
  sendPingsAutomatically: false,
  upgrade: (response, request, context) => {
    const key = request.getHeader('sec-websocket-key')
    response.upgrade({ connection: -1 }, key, request.getHeader('sec-websocket-protocol'), '', context)
  },
  open: (socket) => {
    socket.getUserData().connection = clients.length
    clients.push(socket)
    if (subscribe) socket.subscribe(TOPIC)
  },
  message: (_socket, message) => answers?.add(new Uint8Array(message), ID_AT),
  close: (socket) => {
    clients[socket.getUserData().connection] = null
  },
})

const methods = {
  listen: async ({ port, natsUrl, topic }: { port: number; natsUrl: string | null; topic: boolean }): Promise<void> => {
    subscribe = topic
    const listening = await new Promise<us_listen_socket | false>((resolve) => app.listen('127.0.0.1', port, resolve))
    if (!listening) throw new Error(`port ${port} is taken`)
    if (natsUrl !== null) await feed(natsUrl)
  },
  /** Connections are numbered from 0 again. */
  forget: (): void => {
    clients.length = 0
  },
}

export type BaselineMethods = typeof methods

async function feed(natsUrl: string): Promise<void> {
  const nats = await connect({ servers: natsUrl, noAsyncTraces: true })
  answers = new Answers(nats)
  nats.subscribe(FEED_SUBJECT, {
    callback: (error, message) => {
      if (error) throw error
      readFeed(Buffer.from(message.data.buffer, message.data.byteOffset, message.data.length), (connection, frame) => {
        clients[connection]?.send(frame, true, false)
      })
    },
  })
  nats.subscribe(BROADCAST_SUBJECT, {
    callback: (error, message) => {
      if (error) throw error
      app.publish(TOPIC, message.data, true, false)
    },
  })
}

serve(methods)
