/** Headers read from where they lie, as the client reads them; and where they do not lie there, through the client. */
import { type Msg, type MsgHdrs, headers as natsHeaders } from 'nats'
import t from 'tap'
import { headersToSend, ownHeaders, ownIn, statusOf, textOfHeaders, valueIn } from '../../src/nats/client/headers.js'

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
  t.equal(textOfHeaders(message), block)
  t.equal(valueIn(block, 'Nats-Sequence'), '12')
  t.equal(valueIn(block, 'Sequence'), '', 'a whole key only')
  t.equal(valueIn(block, 'nats-sequence'), '', 'in its own letters')
  t.same(ownHeaders(message), { 'KV-Operation': 'DEL', constructor: 'x', Who: 'ä: b' })
  t.equal(ownIn('NATS/1.0 404 Message Not Found\r\n\r\n'), null)
  t.equal(ownIn(''), null)
  t.end()
})

t.test('the client is asked where nothing of the kind stands before the data', (t) => {
  const headers = natsHeaders()
  headers.append('A', 'one')
  headers.append('A', 'two')
  const elsewhere = { ...clientMessage(headers), size: undefined } as unknown as Msg
  t.same(ownHeaders(elsewhere), { A: 'one' })
  // More bytes than characters: the sum of sizes points into the line before.
  const odd = clientMessage(undefined, 'NATS/1.0ääääääääääääääää')
  t.equal(textOfHeaders(odd), '')
  t.equal(statusOf(odd), 0)
  t.equal(textOfHeaders(clientMessage(undefined)), '', 'no headers at all')
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
