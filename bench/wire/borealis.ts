/** Our protocol, spoken with a worker. Bench stands in for the router. */
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrame } from '../../protocol/encode.js'
import { EMPTY_MESSAGE, PROTOCOL_VERSION, SERVER_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { Credential, ServerFrame } from '../../protocol/frame-types.js'
import { CONTENT_BYTES } from '../content.js'
import { nowMicros } from '../micros.js'
import type { BenchRouter } from '../router.js'
import { WireClient } from './client.js'
import type { WireProtocol } from './measure.js'

export interface BorealisWireOptions {
  target: { host: string; port: number; path: string }
  token: string
  /** Called when the device is connected. */
  router(): Promise<BenchRouter>
}

export interface BorealisWire extends WireProtocol {
  /** The ticket of the last WELCOME. */
  readonly ticket: Uint8Array
}

export function borealisProtocol({ target, token, router }: BorealisWireOptions): BorealisWire {
  let ticket = new Uint8Array()
  let connection = 0
  const open = async (credential: Credential) => {
    connection++
    const client = await WireClient.open({ ...target, subprotocol: '' })
    const hello = { version: PROTOCOL_VERSION, credential, connection, client: null, cursor: null, gap: null }
    client.send(encodeFrame({ type: 'HELLO', ...hello }))
    await client.next((message) => {
      for (const frame of framesOf(message)) {
        if (frame.type === 'WELCOME') ticket = Uint8Array.from(frame.ticket)
        if (frame.type === 'CAUGHT_UP') return true
      }
      return false
    })
    return client
  }
  return {
    name: 'borealis',
    contentBytes: CONTENT_BYTES,
    get ticket() {
      return ticket
    },
    connect: () => open({ kind: 'token', token }),
    resume: () => open({ kind: 'ticket', ticket }),
    push: async (client) => {
      const source = await router()
      source.send(0, 0, nowMicros())
      source.flush()
      await client.next((message) => {
        const notify = framesOf(message).find((frame) => frame.type === 'NOTIFY')
        if (notify) client.send(encodeFrame({ type: 'ACK', ids: [notify.id] }))
        return notify !== undefined
      })
    },
    keepalive: async (client) => {
      client.send(EMPTY_MESSAGE)
      await client.next((message) => message.length === 0)
    },
  }
}

function framesOf(message: Buffer): ServerFrame[] {
  const { frames, fault } = decodeFrames(message, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
  if (fault) throw new Error(`the server sent an invalid frame: ${fault.detail}`)
  return frames.filter((frame) => frame.type !== 'UNKNOWN')
}
