import t from 'tap'
import { smoke } from './support/smoke.js'

// Each test starts a system of several processes, on a machine that may be busy.
t.setTimeout(240_000)

t.test('pipeline loses and repeats no push between HTTP and the devices', async (t) => {
  const result = await smoke(t, 'pipeline', { connections: 50, seconds: 2, batch: 20, window: 200, rate: 'max' })
  t.match(result, { lost: 0, duplicatesSeenByApp: 0 })
  t.ok((result.sent as number) > 500)
})

t.test('accept stores every accepted message, for single requests, batches and ingress', async (t) => {
  const result = await smoke(t, 'accept', { devices: 50, seconds: 1, sockets: 4, batch: 20, batches: 2, window: 20 })
  for (const way of ['single', 'batch', 'ingress']) {
    const side = result[way] as Record<string, unknown>
    t.equal(side.lost, 0, `${way}: no accepted message is lost`)
    t.ok((side.accepted as number) > 20, way)
  }
})

t.test('reads refuses no message beside status reads, and answers every read with all its targets', async (t) => {
  const result = await smoke(t, 'reads', { reads: 20, targets: 30, messages: 2, rate: 50, seconds: 4, sockets: 8 })
  t.match(result, { quiet: { refused: 0, accepted: 200 }, besideReads: { refused: 0, accepted: 200 } })
  t.match(result.reads, { answered: 20, failed: 0 })
})

t.test('catchup delivers every queued message', async (t) => {
  const result = await smoke(t, 'catchup', { connections: 40, queued: 3, rate: 200 })
  t.match(result, { queued: 120, lost: 0 })
})

t.test('records measures the size of every record of a message', async (t) => {
  const { bytes, contentBytes } = await smoke(t, 'records', { messages: 20 })
  for (const [record, size] of Object.entries(bytes as Record<string, number>)) t.ok(size > 50, `${record}: ${size}`)
  const { queued, scheduled, broadcast } = bytes as Record<string, number>
  for (const size of [queued, scheduled, broadcast]) t.ok((size ?? 0) > (contentBytes as number), 'with its content')
})

t.test('in storm all devices reconnect after the kill of their worker, and no push is lost', async (t) => {
  const result = await smoke(t, 'storm', { connections: 50, rate: 50, batch: 5, before: 1, timeout: 45 })
  t.match(result, { lost: 0, duplicatesSeenByApp: 0, workersKilled: 1 })
  t.ok((result.secondsTo100 as number) > 0, 'all devices reconnected')
})

t.test('soak delivers every push to devices that connect and disconnect', async (t) => {
  const result = await smoke(t, 'soak', { connections: 50, minutes: 0.1, rate: 50, slowPercent: 2 })
  t.match(result, { lost: 0, duplicatesSeenByApp: 0 })
  t.equal(result.delivered, result.pushed)
})

t.test('hold completes all phases and loses no push', async (t) => {
  const result = await smoke(t, 'hold', {
    connections: 60,
    minutes: 0.05,
    keepaliveSeconds: 5,
    pushes: 60,
    pushRate: 60,
    flowRate: 20,
    workers: 2,
  })
  t.match(result, {
    failure: '',
    limit: '',
    connections: 60,
    unexpectedDisconnects: 0,
    lost: 0,
    duplicatesSeenByApp: 0,
  })
  t.match(result, { pushes: { sent: 60, delivered: 60, lost: 0 }, broadcast: { devices: 60, delivered: 60, lost: 0 } })
  const { kill, rollingRestart } = result as { kill: Record<string, number>; rollingRestart: Record<string, number> }
  t.match(kill, { othersDisconnected: 0, lost: 0 })
  t.ok((kill.devices ?? 0) > 0 && (kill.secondsTo100 ?? 0) > 0, 'the devices of the killed worker reconnected')
  t.match(rollingRestart, { workers: 2, lost: 0, unexpectedDisconnects: 0 })
  t.ok((rollingRestart.moved ?? 0) >= 60, 'every device moved to another worker')
})
