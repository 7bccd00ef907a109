import { once } from 'node:events'
import t from 'tap'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { systemClock } from '../../src/clock.js'
import { notify, welcome } from './scripted-server.js'
import { client, event, Inbox, memory, server } from './support.js'

const CURSOR = { incarnation: 3n, sequence: 40, subscriptions: 1 }
const GAP = { type: 'GAP', reason: 'queue_overflow', count: 4, mark: { queue: 9n, count: 4 } } as const

function groupMessage(id: bigint, sequence: number): ServerFrame {
  const target = { kind: 'app', name: 'app_a' } as const
  return { ...notify(id), type: 'NOTIFY_GROUP', registrations: [], target, project: 'p', sequence }
}

t.test('a group message is handed over and not acknowledged', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const caughtUp = event(device, 'caughtUp')
  peer.send({ type: 'CAUGHT_UP', cursor: CURSOR }, groupMessage(20n, 41))
  t.same(await caughtUp, CURSOR)
  t.match((await inbox.next(1))[0], { id: '20', application: 'app_a', group: { kind: 'app', project: 'p' } })
  t.equal(peer.frames.filter((f) => f.type === 'ACK').length, 0)
})

t.test('the next HELLO has the cursor of the last group message and the mark of the last GAP', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send(GAP, { type: 'CAUGHT_UP', cursor: CURSOR }, groupMessage(20n, 41))
  await inbox.next(1)
  peer.terminate()
  const hello = await (await transport.connection()).next('HELLO')
  t.same(hello.cursor, { ...CURSOR, sequence: 41 })
  t.same(hello.gap, { queue: 9n, count: 4 })
})

t.test('a group message that comes again on the next connection is not handed over', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send({ type: 'CAUGHT_UP', cursor: CURSOR }, groupMessage(20n, 41))
  await inbox.next(1)
  peer.terminate()
  const next = await transport.welcomed()
  next.send(groupMessage(20n, 41), notify(21n))
  t.same(
    (await inbox.next(2)).map((n) => n.id),
    ['20', '21'],
  )
})

t.test('a repeated GAP is reported once, and a grown GAP by its growth', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const gaps: unknown[] = []
  device.on('gap', (gap) => gaps.push(gap))
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send(GAP, GAP, notify(20n))
  await inbox.next(1)
  peer.terminate()
  const next = await transport.welcomed()
  next.send({ ...GAP, count: 2, mark: { queue: 9n, count: 6 } }, notify(21n))
  await inbox.next(2)
  t.match(gaps, [{ count: 4, reason: 'queue_overflow' }, { count: 2 }])
  t.equal(gaps.length, 2)
})

t.test('after a GAP with log_reset no message raises the cursor, and the next CAUGHT_UP replaces it', async (t) => {
  const transport = await server(t)
  const store = memory()
  store.state.apply({ kind: 'cursor', cursor: CURSOR })
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send({ type: 'GAP', reason: 'log_reset', count: 0, mark: null })
  peer.send(groupMessage(20n, 900))
  await inbox.next(1)
  t.same(store.state.cursor, CURSOR, 'sequence 900 is a position in another log')
  const fresh = { incarnation: 4n, sequence: 901, subscriptions: 1 }
  const caughtUp = event(device, 'caughtUp')
  peer.send({ type: 'CAUGHT_UP', cursor: fresh })
  await caughtUp
  t.same(store.state.cursor, fresh)
})

t.test('a connection that breaks between log_reset and CAUGHT_UP: the next HELLO has the old cursor', async (t) => {
  const transport = await server(t)
  const store = memory()
  store.state.apply({ kind: 'cursor', cursor: CURSOR })
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send({ type: 'GAP', reason: 'log_reset', count: 0, mark: null })
  peer.send(groupMessage(20n, 1))
  await inbox.next(1)
  peer.terminate()
  const next = await transport.connection()
  t.same((await next.next('HELLO')).cursor, CURSOR)
  next.send(welcome())
  next.send({ type: 'GAP', reason: 'log_reset', count: 0, mark: null }, groupMessage(20n, 1), groupMessage(21n, 2))
  t.same(
    (await inbox.next(2)).map(({ id }) => id),
    ['20', '21'],
  )
  // The log ends before the old cursor, and all else is the same: the new position counts all the same.
  const shorter = { ...CURSOR, sequence: 2 }
  const caughtUp = event(device, 'caughtUp')
  next.send({ type: 'CAUGHT_UP', cursor: shorter })
  await caughtUp
  t.same(store.state.cursor, shorter)
})

t.test('a push that has expired by the clock of the server is acknowledged and not shown', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  const expired = event(device, 'expired')
  device.connect()
  const hourAhead = Date.now() + 3_600_000
  const peer = await transport.welcomed({ serverTimeMs: hourAhead })
  const seconds = Math.floor(Date.now() / 1_000)
  peer.send(notify(1n, { expiresAtSeconds: seconds + 60 }), notify(2n, { expiresAtSeconds: seconds + 7_200 }))
  t.same((await peer.next('ACK')).ids, [1n, 2n])
  t.match(await expired, { id: '1' })
  t.same(
    (await inbox.next(1)).map((n) => n.id),
    ['2'],
  )
})

t.test('a device clock that is set while the device is connected does not change when a push expires', async (t) => {
  const transport = await server(t)
  const clock = { ...systemClock, skewMs: 0, now: () => Date.now() + clock.skewMs }
  const device = client(t, transport.url, memory(), { clock })
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  for (const [index, skewMs] of [3_600_000, -3_600_000].entries()) {
    clock.skewMs = skewMs
    const expired = event(device, 'expired')
    const seconds = Math.floor(Date.now() / 1_000)
    const [ended, valid] = [BigInt(2 * index + 1), BigInt(2 * index + 2)]
    peer.send(notify(ended, { expiresAtSeconds: seconds - 60 }), notify(valid, { expiresAtSeconds: seconds + 60 }))
    t.match(await expired, { id: `${ended}` })
    t.equal((await inbox.next(index + 1)).at(-1)?.id, `${valid}`)
  }
})

t.test(
  'pushes that seem expired at a start wait for the time of the server, in at most half of the inbox',
  async (t) => {
    const transport = await server(t)
    const store = memory()
    const seconds = Math.floor(Date.now() / 1_000)
    for (const [id, expiresAtSeconds] of [
      [1n, seconds + 60],
      [2n, seconds + 60],
      [3n, seconds + 60],
      [4n, seconds - 60],
      [5n, seconds + 7_200],
      [6n, 0],
    ] as const) {
      const { type: _, expiresAtSeconds: __, ...content } = notify(id)
      const message = { ...content, group: null, expiresAtMs: expiresAtSeconds * 1_000 }
      store.state.apply({ kind: 'message', message, forgetAtMs: 0, cursorSequence: 0 })
    }
    const clock = { ...systemClock, now: () => Date.now() + 3_600_000 }
    const device = client(t, transport.url, store, { clock, settings: { inboxMax: 6 } })
    const expired: string[] = []
    device.on('expired', ({ id }) => expired.push(id))
    const inbox = new Inbox(device)
    device.connect()
    const peer = await transport.connection()
    await peer.next('HELLO')
    t.same(
      (await inbox.next(1)).map(({ id }) => id),
      ['5'],
      'push 5 is valid by every clock',
    )
    t.same(expired, ['1', '6'], 'push 1 is beyond half of the inbox, and push 6 has no time to live')
    peer.send(welcome())
    const handedOver = await inbox.next(3)
    t.match(
      handedOver.map(({ id, possibleDuplicate }) => [id, possibleDuplicate]),
      [
        ['5', true],
        ['2', true],
        ['3', true],
      ],
    )
    t.same(expired, ['1', '6', '4'])
  },
)

t.test('handlers run one at a time, and a push whose handler failed counts as handed over', async (t) => {
  const transport = await server(t)
  const store = memory()
  const device = client(t, transport.url, store)
  const log: string[] = []
  const second = new Promise<void>((resolve) => {
    device.on('notification', async ({ id }) => {
      log.push(`begin ${id}`)
      await new Promise((next) => setImmediate(next))
      log.push(`end ${id}`)
      if (id === '1') throw new Error('no')
      resolve()
    })
  })
  const errors = once(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.send(notify(1n), notify(2n))
  await second
  t.same(log, ['begin 1', 'end 1', 'begin 2', 'end 2'])
  t.match((await errors)[0], { code: 'handler_failed' })
  await device.close()
  t.equal(store.state.inbox.size, 0)
})

t.test('a push with data that cannot be decoded is shown without data, with the error bad_data', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  const errors = once(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.send(notify(1n, { data: new Uint8Array([0xdf, 0xff, 0xff, 0xff, 0xff]) }))
  t.match((await inbox.next(1))[0], { title: 'title', data: {} })
  t.match((await errors)[0], { code: 'bad_data' })
})

t.test('a full inbox stops the client from reading until the inbox has room', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { inboxMax: 4 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const given: string[] = []
  const all = new Promise<void>((resolve) => {
    device.on('notification', async ({ id }) => {
      await held
      given.push(id)
      if (id === '30') resolve()
    })
  })
  device.connect()
  const peer = await transport.welcomed()
  const list = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => notify(BigInt(from + n)))
  peer.send(...list(1, 4))
  t.same((await peer.next('ACK')).ids, [1n, 2n, 3n, 4n])
  peer.send(...list(5, 30))
  release()
  await all
  t.same(
    given,
    list(1, 30).map(({ id }) => String(id)),
  )
})

t.test('a group message is handed to the applications of its project only', async (t) => {
  const transport = await server(t)
  const store = memory()
  const mine = { application: 'app_b', user: 'ann', registrationId: 'rid-2', number: 2, project: 'other' }
  store.state.apply({ kind: 'registered', registration: mine })
  for (const { application, user } of store.state.registrations.values()) {
    store.state.apply({ kind: 'topic', topic: { application, user, topic: 'news' }, subscribed: true })
  }
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const group = { ...notify(1n), type: 'NOTIFY_GROUP', registrations: [], sequence: 1 } as const
  const topic = { kind: 'topic', name: 'news' } as const
  const user = { kind: 'user', name: 'ann' } as const
  peer.send(
    { ...group, id: 1n, target: topic, project: 'acme' },
    { ...group, id: 2n, target: topic, project: 'third' },
    { ...group, id: 3n, target: topic, project: 'other' },
    { ...group, id: 4n, target: user, project: 'acme' },
    { ...group, id: 5n, target: user, project: 'other' },
  )
  const shown = (await inbox.next(3)).map((n) => [n.id, n.applications])
  t.same(shown, [
    ['1', ['app_a']],
    ['3', ['app_b']],
    ['5', ['app_b']],
  ])
})

t.test(
  'before the first WELCOME of a start a push that is valid by the stored clock of the server is handed over',
  async (t) => {
    const store = memory()
    const expiresAtMs = Date.now() - 600_000
    const message = { registration: 1, group: null, expiresAtMs, priority: 'normal', collapseKey: '' } as const
    const text = { title: 'in time', message: '', data: new Uint8Array(0) }
    store.state.apply({ kind: 'clock', serverAheadMs: -3_600_000 })
    const valid = { id: 1n, ...message, ...text }
    store.state.apply({ kind: 'message', message: valid, forgetAtMs: Date.now(), cursorSequence: 0 })
    const device = client(t, 'ws://127.0.0.1:1', store)
    const inbox = new Inbox(device)
    device.connect()
    t.match(await inbox.next(1), [{ id: '1' }])
  },
)

t.test('a client works with a server whose clock is an hour behind', async (t) => {
  const transport = await server(t)
  const other = client(t, transport.url, memory())
  other.connect()
  await transport.welcomed({ serverTimeMs: Date.now() - 3_600_000 })
  t.match(await other.register('app_a'), { application: 'app_a' })
  await other.close()
})
