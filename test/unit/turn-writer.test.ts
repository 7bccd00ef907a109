/** What is published in one turn of the event loop is written at its end, in order, and never kept without bound. */
import t from 'tap'
import { TurnWriter } from '../../src/nats/client/turn-writer.js'

const bytes = (length: number) => new Uint8Array(length)

function writer() {
  const written: string[] = []
  return { written, turn: new TurnWriter(({ subject }) => written.push(subject)) }
}

const endOfTurn = () => new Promise((resolve) => setImmediate(resolve))

t.test('all at the end of the turn, in order, also what promises of the turn publish', async (t) => {
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

t.test('at once where it is much, and in order with what waits', (t) => {
  const { written, turn } = writer()
  turn.add('small', bytes(1), '', null)
  turn.add('large', bytes(64 * 1024), '', null)
  t.same(written, ['small', 'large'])
  t.end()
})

t.test('on demand, once; what was dropped never', async (t) => {
  const { written, turn } = writer()
  turn.add('a', bytes(1), '', null)
  turn.flush()
  t.same(written, ['a'])
  turn.add('b', bytes(1), '', null)
  turn.drop()
  await endOfTurn()
  t.same(written, ['a'])
})

t.test('what the writing of one publishes waits for the next turn', async (t) => {
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
