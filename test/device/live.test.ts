import t from 'tap'
import { systemClock } from '../../src/clock.js'
import { wsDial } from '../../src/device/connection/ws-dial.js'
import { BorealisClient, FileStateStore, identify, MemoryStateStore } from '../../src/device/index.js'
import { deviceSettings } from '../../src/device/settings.js'
import { until } from '../support/api.js'
import { startLive } from './live.js'
import { event, Inbox } from './support.js'

t.test('a device on the live service', { timeout: 60_000 }, async (t) => {
  const live = await startLive(t)
  const { application } = live

  await t.test('a device enrols, registers and gets a push, and the sender sees the status delivered', async (t) => {
    const device = await live.device('first')
    const inbox = new Inbox(device)
    device.connect()
    const { registrationId } = await device.register(application)
    const id = await live.send('device', registrationId, 'hello')
    t.match((await inbox.next(1))[0], { id, title: 'hello', application, data: { n: 1 }, possibleDuplicate: false })
    await until('delivered', async () => (await live.status(id)) === 'delivered')
    await device.close()
  })

  await t.test('a device that restarts gets each push that was sent while it was away once, in order', async (t) => {
    let device = await live.device('second')
    device.connect()
    const { registrationId } = await device.register(application)
    await device.close()
    const ids = [
      await live.send('device', registrationId, '1'),
      await live.send('device', registrationId, '2'),
      await live.send('device', registrationId, '3'),
    ]
    device = await live.device('second')
    const inbox = new Inbox(device)
    const resumed = event<{ resumed: boolean }>(device, 'ready')
    const caughtUp = event(device, 'caughtUp')
    device.connect()
    t.ok((await resumed).resumed, 'the device resumes with its ticket')
    t.same(
      (await inbox.next(3)).map((n) => n.id),
      ids,
    )
    await caughtUp
    const again = await device.register(application)
    t.equal(again.registrationId, registrationId)
    for (const id of ids) await until('delivered', async () => (await live.status(id)) === 'delivered')
    await device.close()
    device = await live.device('second')
    const later = new Inbox(device)
    device.connect()
    const last = await live.send('device', registrationId, '4')
    t.same(
      (await later.next(1)).map((n) => n.id),
      [last],
      'no push comes a second time',
    )
    await device.close()
  })

  await t.test('a subscriber gets topic messages live, and from its cursor after a reconnect', async (t) => {
    let device = await live.device('third')
    let inbox = new Inbox(device)
    device.connect()
    await device.register(application)
    await device.subscribe('news')
    const first = await live.send('topic', 'news', 'live')
    t.match(await inbox.next(1), [{ id: first, application, group: { kind: 'topic', name: 'news' } }])
    await device.close()
    const missed = [await live.send('topic', 'news', 'm1'), await live.send('application', application, 'm2')]
    device = await live.device('third')
    inbox = new Inbox(device)
    const caughtUp = event(device, 'caughtUp')
    device.connect()
    t.same(
      (await inbox.next(2)).map((n) => n.id),
      missed,
    )
    await caughtUp
    // DONE comes from the core. The worker has left the topic when it sends CAUGHT_UP with the new version.
    const left = event(device, 'caughtUp')
    await device.unsubscribe('news')
    await left
    await live.send('topic', 'news', 'after the unsubscribe')
    const own = await live.send('application', application, 'm3')
    t.equal((await inbox.next(3))[2]?.id, own)
    await device.close()
  })

  await t.test('a device of a worker that drains moves to another worker and gets each push once', async (t) => {
    const leaving = await live.startWorker()
    const staying = await live.startWorker()
    const urls = [live.urlOf(leaving), live.urlOf(staying)]
    // Stands for a load balancer: gives the first address until that worker drains, then the other.
    const dial = wsDial(65_539, systemClock)
    const device = await live.device('fourth', {
      url: urls[0] as string,
      dial: (_url, events) => dial(urls[0] as string, events),
    })
    const inbox = new Inbox(device)
    device.connect()
    const { registrationId } = await device.register(application)
    const sent = [await live.send('device', registrationId, 'before')]
    await inbox.next(1)
    const back = event(device, 'ready')
    urls.shift()
    const draining = leaving.stop()
    for (let n = 0; n < 10; n++) sent.push(await live.send('device', registrationId, `during ${n}`))
    await back
    await draining
    sent.push(await live.send('device', registrationId, 'after'))
    const got = (await inbox.next(sent.length)).map((n) => n.id)
    t.same([...got].sort(), [...sent].sort())
    await device.close()
  })

  await t.test(
    'a device that lost its state file but kept its identity connects and keeps its registration',
    async (t) => {
      const first = await live.device('fifth')
      first.connect()
      const { registrationId } = await first.register(application)
      await first.close()
      const file = await FileStateStore.open(live.stateFile('fifth'), deviceSettings(), systemClock.now)
      const { identity, connection } = file.state
      await file.close()
      t.equal(connection, 1)
      const store = new MemoryStateStore()
      if (identity) await identify(store, identity)
      const second = new BorealisClient({ store, url: live.urlOf(live.worker), random: Math.random })
      t.teardown(() => second.close())
      second.connect()
      const again = await second.register(application)
      t.equal(again.registrationId, registrationId)
      t.equal(second.deviceId, first.deviceId)
      t.ok(store.state.connection > 1, 'the connection number was raised above the lost one')
    },
  )
})
