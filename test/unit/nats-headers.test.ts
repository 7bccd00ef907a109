/** Headers are read from the bytes before the data, and from the client's objects if the bytes are elsewhere. */
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

/** A message that the installed client makes from bytes of the server. Its property `headers` throws. */
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

/** A message as the client's parser leaves it: headers before data, in a buffer with more bytes on both sides. */
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

/** A message without a block of headers before its data. */
function withoutBlock(headers: MsgHdrs | undefined, subject = 'inbox.1'): Msg {
  const chunk = Buffer.from(`MSG ${subject} 1 0\r\n`)
  const size = Buffer.byteLength(subject)
  return { subject, reply: '', data: chunk.subarray(chunk.length), headers, size: () => size } as unknown as Msg
}

t.test('the installed client keeps headers directly before the data, so they are read there', (t) => {
  const block = 'NATS/1.0\r\nWho: a\r\nNats-Sequence: 7\r\n\r\n'
  const message = parsedByTheClient(`HMSG inbox.1 1 reply.2 ${block.length} ${block.length + 4}\r\n${block}body\r\n`)
  t.equal(headerText(message), block)
  t.same(applicationHeaders(message), { Who: 'a' })
  t.equal(Buffer.from(message.data).toString(), 'body')
  const status = 'NATS/1.0 404 Not Found\r\n\r\n'
  t.equal(statusOf(parsedByTheClient(`HMSG inbox.1 1 ${status.length} ${status.length}\r\n${status}\r\n`)), 404)
  t.end()
})

t.test('statusOf reads the status of a message without data, and 0 from any other message', (t) => {
  for (const status of [100, 404, 408, 409, 503]) {
    t.equal(statusOf(received(`NATS/1.0 ${status} Some Words\r\n\r\n`, '')), status)
  }
  t.equal(statusOf(received('NATS/1.0 503\r\n\r\n', '')), 503, 'a status without a description')
  t.equal(statusOf(received('NATS/1.0\r\nA: 404\r\n\r\n', '')), 0, 'an ordinary message without data')
  t.equal(statusOf(received('NATS/1.0 404 Odd\r\n\r\n', 'data')), 0, 'a message with data has no status')
  t.end()
})

t.test('header fields: the first value of a key counts, and applicationHeaders leaves out those of the server', (t) => {
  const block =
    'NATS/1.0\r\nKV-Operation: DEL\r\nconstructor:x\r\nodd\r\nNats-Sequence: 12\r\nWho: ä: b \r\nNats-Sequence: 13\r\nWho: c\r\n\r\n'
  const message = received(block, 'body')
  t.equal(headerText(message), block)
  t.equal(headerValue(block, 'Nats-Sequence'), '12')
  t.equal(headerValue(block, 'Sequence'), '', 'a part of a key does not match')
  t.equal(headerValue(block, 'nats-sequence'), '', 'the case of letters matters')
  t.same(applicationHeaders(message), { 'KV-Operation': 'DEL', constructor: 'x', Who: 'ä: b' })
  t.equal(applicationHeadersIn('NATS/1.0 404 Message Not Found\r\n\r\n'), null)
  t.equal(applicationHeadersIn(''), null)
  t.end()
})

t.test("headers come from the client's object if no header block stands before the data", (t) => {
  const headers = natsHeaders()
  headers.append('A', 'one')
  headers.append('A', 'two')
  const elsewhere = { ...withoutBlock(headers), size: undefined } as unknown as Msg
  t.same(applicationHeaders(elsewhere), { A: 'one' })
  // This subject has more bytes than characters, so the computed start of the headers lies within the subject.
  const misleading = withoutBlock(undefined, 'NATS/1.0ääääääääääääääää')
  t.equal(headerText(misleading), '')
  t.equal(statusOf(misleading), 0)
  t.equal(headerText(withoutBlock(undefined)), '', 'a message without headers')
  t.end()
})

t.test('headersToSend encodes as the client does, and refuses a value with a line end', (t) => {
  const fields = { 'Nats-Msg-Id': 'a-1', Who: 'ä' }
  const clientHeaders = natsHeaders()
  for (const [key, value] of Object.entries(fields)) clientHeaders.set(key, value)
  const encoded = (headers: unknown) => Buffer.from((headers as { encode(): Uint8Array }).encode()).toString()
  t.equal(encoded(headersToSend(fields)), encoded(clientHeaders))
  t.throws(() => headersToSend({ Who: 'a\r\nNats-Msg-Id: b' }), RangeError)
  t.end()
})
