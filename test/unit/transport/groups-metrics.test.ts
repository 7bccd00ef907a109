import t from 'tap'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf } from './one-worker-groups.js'

t.test('notifiedGroup counts each group message to a device once, live and in catch-up', async (t) => {
  const stage = await oneWorker()
  const { clock, connect, worker } = stage
  const { subscribe, send } = groupsOf(stage)
  const phone = connect()
  await clock.advance(100)
  await subscribe('a')
  await clock.advance(1_000)
  await send('a', 1n)
  await clock.advance(100)
  t.match(worker.metrics, { notified: 0, notifiedGroup: 1 }, 'live')
  const cursor = cursors(phone).at(-1) ?? null
  const again = connect(cursor, stage.device, 2)
  await clock.advance(1_000)
  t.same(groupIds(again), [1n], 'sent again, because the cursor is the one before the message')
  t.match(worker.metrics, { notified: 0, notifiedGroup: 2 }, 'in catch-up')
  await stage.stop()
})
