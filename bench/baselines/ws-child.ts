/**
 * A server on the `ws` package, as a user might write one. It speaks as much of our protocol as a delivery needs, and
 * checks nothing.
 */
import { once } from 'node:events'
import { type WebSocket, WebSocketServer } from 'ws'
import { encodeFrames } from '../../protocol/encode.js'
import { EMPTY_MESSAGE, FrameType } from '../../protocol/frame.js'
import { serve } from '../generator/rpc.js'
import type { Answers } from './answers.js'
import { ACK_ID_AT, type BaselineMethods, feedFrom } from './baseline-child.js'

const clients: (WebSocket | null)[] = []
let answers: Answers | null = null

const WELCOME = encodeFrames([
  {
    type: 'WELCOME',
    serverTimeMs: Date.now(),
    keepaliveSeconds: 600,
    limits: { frameBytesMax: 16_384, window: 64, registrationsMax: 64, topicsMax: 64 },
    subscriptions: 1,
    ticket: new Uint8Array(),
    ticketSeconds: 0,
  },
  { type: 'CAUGHT_UP', cursor: null },
])

function accept(socket: WebSocket): void {
  const connection = clients.push(socket) - 1
  socket.on('message', (message: Buffer) => {
    const type = typeOf(message)
    if (type === FrameType.ACK) answers?.add(message, ACK_ID_AT)
    else if (type === FrameType.HELLO) socket.send(WELCOME)
    else if (message.length === 0) socket.send(EMPTY_MESSAGE)
  })
  socket.on('error', () => socket.terminate())
  socket.once('close', () => {
    clients[connection] = null
  })
}

/** The type of a frame. It follows a length of one to three bytes. */
function typeOf(message: Buffer): number | undefined {
  let at = 0
  while (((message[at] ?? 0) & 0x80) !== 0) at++
  return message[at + 1]
}

serve({
  listen: async ({ port, natsUrl }) => {
    const server = new WebSocketServer({ host: '127.0.0.1', port, perMessageDeflate: false, backlog: 4096 })
    server.on('connection', accept)
    await once(server, 'listening')
    if (natsUrl === null) return
    answers = await feedFrom(natsUrl, {
      one: (connection, frame) => clients[connection]?.send(frame),
      all: (frame) => {
        for (const client of clients) client?.send(frame)
      },
    })
  },
  forget: () => {
    clients.length = 0
  },
} satisfies BaselineMethods)
