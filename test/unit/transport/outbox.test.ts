import t from 'tap'
import { Outbox } from '../../../src/transport/delivery/outbox.js'
import type { Session } from '../../../src/transport/session/session.js'
import type { SendResult } from '../../../src/transport/socket/socket.js'

/** An outbox with one session whose socket answers `socket.result`. Messages show length, first and last byte. */
function outboxOfOneSession() {
  const messages: [length: number, first: number, last: number][] = []
  const socket = {
    result: 'sent' as SendResult,
    send: (bytes: Uint8Array) => {
      messages.push([bytes.length, bytes[0] ?? 0, bytes.at(-1) ?? 0])
      return socket.result
    },
  }
  const dropped = { times: 0 }
  const outbox = new Outbox(() => dropped.times++)
  const session = { device: 'a', outgoing: null, socket } as unknown as Session
  return { outbox, session, socket, messages, dropped }
}

const frame = (length: number, fill: number) => new Uint8Array(length).fill(fill)

t.test('frames of one turn are joined in order, into messages of the length that a device must accept', async (t) => {
  const { outbox, session, messages } = outboxOfOneSession()
  outbox.add(session, frame(10, 1))
  outbox.flush()
  for (let fill = 2; fill <= 5; fill++) outbox.add(session, frame(30_000, fill))
  outbox.flush()
  outbox.flush()
  t.same(messages, [
    [10, 1, 1],
    [60_000, 2, 3],
    [60_000, 4, 5],
  ])
})

t.test('after the socket dropped a message, no further message of that turn is sent to it', async (t) => {
  const { outbox, session, socket, messages, dropped } = outboxOfOneSession()
  socket.result = 'dropped'
  outbox.add(session, frame(40_000, 6))
  outbox.add(session, frame(40_000, 7))
  outbox.flush()
  t.equal(dropped.times, 1)
  t.equal(messages.length, 1)
})
