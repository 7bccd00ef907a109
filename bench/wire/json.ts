/** JSON over WebSocket, as a simple service might use it: the same exchange as JSON objects, with WebSocket pings. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import { Opcode } from '../generator/websocket.js'
import type { Bench } from '../scenario.js'
import { WireClient } from './client.js'
import type { WireProtocol } from './measure.js'

export interface JsonWireOptions {
  token: string
  ticket: Uint8Array
  push: Record<string, unknown> & { id: string }
  contentBytes: number
}

export async function jsonProtocol(bench: Bench, options: JsonWireOptions): Promise<WireProtocol> {
  const { token, ticket, push, contentBytes } = options
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false })
  bench.defer(
    () =>
      new Promise((resolve) => {
        for (const client of server.clients) client.terminate()
        server.close(resolve)
      }),
  )
  await once(server, 'listening')
  const sealed = Buffer.from(ticket).toString('base64url')
  server.on('connection', (socket) =>
    socket.on('message', (text) => {
      const { type } = JSON.parse(String(text)) as { type: string }
      if (type === 'hello') {
        socket.send(JSON.stringify(welcome(sealed)))
        socket.send(JSON.stringify({ type: 'caughtUp' }))
      }
    }),
  )
  const { port } = server.address() as AddressInfo
  const open = async (credential: object) => {
    const client = await WireClient.open({ host: '127.0.0.1', port, path: '/v1/device', subprotocol: '' })
    client.send(json({ type: 'hello', version: 1, ...credential, connection: 1 }), Opcode.TEXT)
    await client.next((message) => message.includes('caughtUp'))
    return client
  }
  return {
    name: 'json',
    contentBytes,
    connect: () => open({ token }),
    resume: () => open({ ticket: sealed }),
    push: async (client) => {
      // The server runs in this process, so this pushes without a request of the device.
      for (const socket of server.clients) socket.send(JSON.stringify({ type: 'notify', ...push }))
      await client.next((message) => message.includes('notify'))
      client.send(json({ type: 'ack', ids: [push.id] }), Opcode.TEXT)
    },
    keepalive: (client) => client.pong(),
  }
}

function welcome(ticket: string): object {
  return {
    type: 'welcome',
    serverTimeMs: Date.now(),
    keepaliveSeconds: 120,
    limits: { frameBytesMax: 16_384, window: 64, registrationsMax: 64, topicsMax: 64 },
    subscriptions: 1,
    ticket,
    ticketSeconds: 86_400,
  }
}

const json = (value: object) => Buffer.from(JSON.stringify(value))
