/** After many connects, in a quiet second, once. */
import t from 'tap'
import { QuietCollection } from '../../../src/transport/upkeep/quiet-collection.js'

function collection() {
  const world = { collected: 0 }
  return { world, quiet: new QuietCollection(() => world.collected++) }
}

t.test('not while they come; then once', (t) => {
  const { world, quiet } = collection()
  for (let came = 500; came <= 5_000; came += 500) quiet.tick(came, came)
  t.equal(world.collected, 0)
  for (let i = 0; i < 100; i++) quiet.tick(5_003, 5_003)
  t.equal(world.collected, 1)
  t.end()
})

t.test('not for a few, and for a trickle only when it has become many', (t) => {
  const { world, quiet } = collection()
  quiet.tick(400, 400)
  quiet.tick(400, 400)
  t.equal(world.collected, 0)
  for (let came = 410; came < 1_000; came += 10) quiet.tick(came, 400)
  t.equal(world.collected, 1)
  t.end()
})

t.test('a full worker waits for its share', (t) => {
  const { world, quiet } = collection()
  quiet.tick(18_000, 18_000)
  quiet.tick(18_000, 18_000)
  t.equal(world.collected, 1)
  for (let came = 18_030; came < 18_900; came += 30) quiet.tick(came, 18_000)
  t.equal(world.collected, 1)
  quiet.tick(18_900, 18_000)
  t.equal(world.collected, 2)
  t.end()
})

t.test('where nobody can be asked', (t) => {
  const quiet = new QuietCollection(null)
  quiet.tick(5_000, 5_000)
  t.doesNotThrow(() => quiet.tick(5_000, 5_000))
  t.end()
})
