/** Messages that one turn of the event loop publishes are written at its end, in order, and buffered within a bound. */
import t from 'tap'
import { TurnWriter } from '../../src/nats/client/turn-writer.js'

const bytes = (length: number) => new Uint8Array(length)

function writer() {
  const written: string[] = []
  return { written, turn: new TurnWriter(({ subject }) => written.push(subject)) }
}

const endOfTurn = () => new Promise((resolve) => setImmediate(resolve))

t.test('messages of one turn are written at its end, in order, also those that its promises publish', async (t) => {
  const { written, turn } = writer()
  turn.add('a', bytes(1), '', null)
  await Promise.resolve()
  turn.add('b', bytes(1), '', null)
  await Promise.resolve()
  t.same(written, [])
  await endOfTurn()
  t.same(written, ['a', 'b'])
  turn.add('c', bytes(1), '', null)
  await endOfTurn()
  t.same(written, ['a', 'b', 'c'])
})

t.test('a large message is written at once, after the messages that wait', (t) => {
  const { written, turn } = writer()
  turn.add('small', bytes(1), '', null)
  turn.add('large', bytes(64 * 1024), '', null)
  t.same(written, ['small', 'large'])
  t.end()
})

t.test('flush() writes at once, and the end of the turn does not write again', async (t) => {
  const { written, turn } = writer()
  turn.add('a', bytes(1), '', null)
  turn.flush()
  t.same(written, ['a'])
  await endOfTurn()
  t.same(written, ['a'])
})

t.test('dropped messages are never written', async (t) => {
  const { written, turn } = writer()
  turn.add('a', bytes(1), '', null)
  turn.flush()
  turn.add('b', bytes(1), '', null)
  turn.drop()
  await endOfTurn()
  t.same(written, ['a'])
})

t.test('a message that is published during a write waits for the end of the next turn', async (t) => {
  const written: string[] = []
  const turn: TurnWriter = new TurnWriter(({ subject }) => {
    written.push(subject)
    if (subject === 'a') turn.add('b', bytes(1), '', null)
  })
  turn.add('a', bytes(1), '', null)
  turn.flush()
  t.same(written, ['a'])
  await endOfTurn()
  t.same(written, ['a', 'b'])
})
