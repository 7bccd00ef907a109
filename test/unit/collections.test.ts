import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { mapAtOnce } from '../../src/collections.js'

t.test('mapAtOnce keeps the order of the items and has at most the given number of calls under way', async (t) => {
  const items = Array.from({ length: 20 }, (_, index) => index)
  let underWay = 0
  let most = 0
  const results = await mapAtOnce(items, 3, async (item) => {
    most = Math.max(most, ++underWay)
    for (let turn = 0; turn <= item % 4; turn++) await setImmediate()
    underWay--
    return item * 2
  })
  t.same(
    results,
    items.map((item) => item * 2),
  )
  t.equal(most, 3)
  t.same(await mapAtOnce([], 3, async () => 1), [])
})

t.test('mapAtOnce begins nothing after a failure and waits for the calls under way', async (t) => {
  const begun: number[] = []
  let finished = 0
  const all = mapAtOnce([0, 1, 2, 3, 4, 5], 2, async (item) => {
    begun.push(item)
    await setImmediate()
    if (item === 1) throw new Error('the second')
    for (let turn = 0; turn < 5; turn++) await setImmediate()
    finished++
  })
  await t.rejects(all, { message: 'the second' })
  t.same(begun, [0, 1])
  t.equal(finished, 1, 'the first call was waited for')
})
