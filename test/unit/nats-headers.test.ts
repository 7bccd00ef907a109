/** Reads headers from the bytes before the data, and from the client's objects if the bytes are elsewhere. */
import { createRequire } from 'node:module'
import { type Msg, type MsgHdrs, headers as natsHeaders } from 'nats'
import t from 'tap'
import {
  applicationHeaders,
  applicationHeadersIn,
  headersToSend,
  headerText,
  headerValue,
  statusOf,
} from '../../src/nats/client/headers.js'

const require = createRequire(import.meta.url)
const { MsgImpl } = require('nats/lib/nats-base-client/msg.js') as { MsgImpl: new (...parts: unknown[]) => Msg }
const { Parser } = require('nats/lib/nats-base-client/parser.js') as {
  Parser: new (dispatcher: {
    push(event: { msg?: unknown; data?: Uint8Array }): void
  }) => { parse(chunk: Buffer): void }
}

/** A message as the installed version of the client makes it from bytes of the server. Its own headers are out of use. */
function parsedByTheClient(bytes: string): Msg {
  const messages: Msg[] = []
  const parser = new Parser({ push: ({ msg, data }) => messages.push(new MsgImpl(msg, data, null)) })
  parser.parse(Buffer.from(bytes))
  const [message] = messages
  if (!message) throw new Error('the client parsed no message')
  return Object.defineProperty(message, 'headers', {
    get() {
      throw new Error('the headers were not found before the data')
    },
  })
}

/** As the client's parser leaves a message: headers and data one after the other, in a buffer with more around them. */
function received(block: string, data: string, subject = 'inbox.1'): Msg & { size(): number } {
  const chunk = Buffer.from(`HMSG ${subject} 1 0 0\r\n${block}${data}\r\nMSG next 1 0\r\n\r\n`)
  const from = chunk.length - Buffer.byteLength(`${block}${data}\r\nMSG next 1 0\r\n\r\n`) + Buffer.byteLength(block)
  return {
    ...{ subject, sid: 1, reply: '', data: chunk.subarray(from, from + Buffer.byteLength(data)) },
    size: () => Buffer.byteLength(subject) + Buffer.byteLength(block + data),
    get headers(): never {
      throw new Error('the client was asked')
    },
  } as unknown as Msg & { size(): number }
}

/** Without a block of headers before its data. */
function clientMessage(headers: MsgHdrs | undefined, subject = 'inbox.1'): Msg {
  const chunk = Buffer.from(`MSG ${subject} 1 0\r\n`)
  const size = Buffer.byteLength(subject)
  return { subject, reply: '', data: chunk.subarray(chunk.length), headers, size: () => size } as unknown as Msg
}

t.test('the installed version of the client keeps headers directly before the data, where they are read', (t) => {
  const block = 'NATS/1.0\r\nWho: a\r\nNats-Sequence: 7\r\n\r\n'
  const message = parsedByTheClient(`HMSG inbox.1 1 reply.2 ${block.length} ${block.length + 4}\r\n${block}body\r\n`)
  t.equal(headerText(message), block)
  t.same(applicationHeaders(message), { Who: 'a' })
  t.equal(Buffer.from(message.data).toString(), 'body')
  const status = 'NATS/1.0 404 Not Found\r\n\r\n'
  t.equal(statusOf(parsedByTheClient(`HMSG inbox.1 1 ${status.length} ${status.length}\r\n${status}\r\n`)), 404)
  t.end()
})

t.test('a status', (t) => {
  for (const status of [100, 404, 408, 409, 503]) {
    t.equal(statusOf(received(`NATS/1.0 ${status} Some Words\r\n\r\n`, '')), status)
  }
  t.equal(statusOf(received('NATS/1.0 503\r\n\r\n', '')), 503, 'without words')
  t.equal(statusOf(received('NATS/1.0\r\nA: 404\r\n\r\n', '')), 0, 'an ordinary message without data')
  t.equal(statusOf(received('NATS/1.0 404 Odd\r\n\r\n', 'data')), 0, 'data is never a status')
  t.end()
})

t.test('fields: the first of a key, spaces or none, ours without those of the server', (t) => {
  const block =
    'NATS/1.0\r\nKV-Operation: DEL\r\nconstructor:x\r\nodd\r\nNats-Sequence: 12\r\nWho: ä: b \r\nNats-Sequence: 13\r\nWho: c\r\n\r\n'
  const message = received(block, 'body')
  t.equal(headerText(message), block)
  t.equal(headerValue(block, 'Nats-Sequence'), '12')
  t.equal(headerValue(block, 'Sequence'), '', 'a whole key only')
  t.equal(headerValue(block, 'nats-sequence'), '', 'in its own letters')
  t.same(applicationHeaders(message), { 'KV-Operation': 'DEL', constructor: 'x', Who: 'ä: b' })
  t.equal(applicationHeadersIn('NATS/1.0 404 Message Not Found\r\n\r\n'), null)
  t.equal(applicationHeadersIn(''), null)
  t.end()
})

t.test('the client is asked where nothing of the kind stands before the data', (t) => {
  const headers = natsHeaders()
  headers.append('A', 'one')
  headers.append('A', 'two')
  const elsewhere = { ...clientMessage(headers), size: undefined } as unknown as Msg
  t.same(applicationHeaders(elsewhere), { A: 'one' })
  // More bytes than characters: the sum of sizes points into the line before.
  const odd = clientMessage(undefined, 'NATS/1.0ääääääääääääääää')
  t.equal(headerText(odd), '')
  t.equal(statusOf(odd), 0)
  t.equal(headerText(clientMessage(undefined)), '', 'no headers at all')
  t.end()
})

t.test('what is sent is what the client would send; a value cannot begin a line', (t) => {
  const fields = { 'Nats-Msg-Id': 'a-1', Who: 'ä' }
  const theirs = natsHeaders()
  for (const [key, value] of Object.entries(fields)) theirs.set(key, value)
  const encoded = (headers: unknown) => Buffer.from((headers as { encode(): Uint8Array }).encode()).toString()
  t.equal(encoded(headersToSend(fields)), encoded(theirs))
  t.throws(() => headersToSend({ Who: 'a\r\nNats-Msg-Id: b' }), RangeError)
  t.end()
})
