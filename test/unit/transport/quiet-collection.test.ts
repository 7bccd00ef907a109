/** QuietCollection collects garbage once in a quiet second after many connects. */
import t from 'tap'
import { QuietCollection } from '../../../src/transport/upkeep/quiet-collection.js'

function collection() {
  const world = { collected: 0 }
  return { world, quiet: new QuietCollection(() => world.collected++) }
}

t.test('many connects are followed by one collection, after they have stopped', (t) => {
  const { world, quiet } = collection()
  for (let connects = 500; connects <= 5_000; connects += 500) quiet.tick(connects, connects)
  t.equal(world.collected, 0)
  for (let i = 0; i < 100; i++) quiet.tick(5_003, 5_003)
  t.equal(world.collected, 1)
  t.end()
})

t.test('few connects cause no collection, until their sum has become many', (t) => {
  const { world, quiet } = collection()
  quiet.tick(400, 400)
  quiet.tick(400, 400)
  t.equal(world.collected, 0)
  for (let connects = 410; connects < 1_000; connects += 10) quiet.tick(connects, 400)
  t.equal(world.collected, 1)
  t.end()
})

t.test('a worker with 18,000 connections collects again only after a twentieth of them is new', (t) => {
  const { world, quiet } = collection()
  quiet.tick(18_000, 18_000)
  quiet.tick(18_000, 18_000)
  t.equal(world.collected, 1)
  for (let connects = 18_030; connects < 18_900; connects += 30) quiet.tick(connects, 18_000)
  t.equal(world.collected, 1)
  quiet.tick(18_900, 18_000)
  t.equal(world.collected, 2)
  t.end()
})

t.test('without access to the garbage collector, a quiet second does nothing', (t) => {
  const quiet = new QuietCollection(null)
  quiet.tick(5_000, 5_000)
  t.doesNotThrow(() => quiet.tick(5_000, 5_000))
  t.end()
})
