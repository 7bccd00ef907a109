/** A server of uWebSockets.js alone, without sessions and protocol: the least that any server on it costs. */
import uWS, { type us_listen_socket, type WebSocket } from 'uWebSockets.js'
import { serve } from '../generator/rpc.js'
import type { Answers } from './answers.js'
import { ACK_ID_AT, type BaselineMethods, feedFrom } from './baseline-child.js'

const TOPIC = 'all'

interface Client {
  connection: number
}

const clients: (WebSocket<Client> | null)[] = []
let answers: Answers | null = null
let subscribe = false

const app = uWS.App().ws<Client>('/*', {
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
  message: (_socket, message) => answers?.add(new Uint8Array(message), ACK_ID_AT),
  close: (socket) => {
    clients[socket.getUserData().connection] = null
  },
})

serve({
  listen: async ({ port, natsUrl, topic }) => {
    subscribe = topic
    const listening = await new Promise<us_listen_socket | false>((resolve) => app.listen('127.0.0.1', port, resolve))
    if (!listening) throw new Error(`port ${port} is taken`)
    if (natsUrl === null) return
    answers = await feedFrom(natsUrl, {
      one: (connection, frame) => clients[connection]?.send(frame, true, false),
      all: (frame) => app.publish(TOPIC, frame, true, false),
    })
  },
  forget: () => {
    clients.length = 0
  },
} satisfies BaselineMethods)
