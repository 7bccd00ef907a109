/** Tests of the small parts of bench: stamps, identities, tallies, frames, readings of /proc, flags, results. */
import { Command } from 'commander'
import t from 'tap'
import Type from 'typebox'
import { Value } from 'typebox/value'
import { Cleanup } from '../../bench/cleanup.js'
import { Envelope, seal } from '../../bench/envelope.js'
import { addFlags, pickOptions } from '../../bench/flags.js'
import { apportion, split } from '../../bench/generator/generators.js'
import { deviceOf, indexOf, sourceAddress, sourcePort } from '../../bench/generator/identity.js'
import { Tally } from '../../bench/generator/tally.js'
import { clientFrame, readServerFrame, readUpgradeAnswer } from '../../bench/generator/websocket.js'
import { latencyMs, mergeHistograms, newHistogram, packHistogram, record } from '../../bench/measure/latency.js'
import { childrenOf, cpuMicros, isAlive, memoryOf } from '../../bench/measure/processes.js'
import { median, slope } from '../../bench/measure/stats.js'
import { nowMicros } from '../../bench/micros.js'
import { Progress } from '../../bench/progress.js'
import { pushAtRate } from '../../bench/pusher.js'
import { microsAt, STAMP_BYTES, sequenceAt, stampData, stampText, writeStamp } from '../../bench/stamp.js'
import { textTable } from '../../bench/table.js'
import { DEVICE_ID } from '../../src/device-token.js'

t.test('a stamp has the same bytes as text, as data and as bytes, and is at the end of the data', async (t) => {
  const micros = nowMicros()
  const text = Buffer.from(stampText(77, micros))
  const data = stampData(77, micros)
  const bytes = new Uint8Array(STAMP_BYTES)
  writeStamp(bytes, 0, 77, micros)
  t.same(Buffer.from(bytes), text)
  t.same(Buffer.from(data.subarray(-STAMP_BYTES)), text)
  t.equal(sequenceAt(data, data.length - STAMP_BYTES), 77)
  t.equal(microsAt(data, data.length - STAMP_BYTES), Math.floor(micros))
})

t.test('bytes that are no stamp give NaN as their time', async (t) => {
  t.ok(Number.isNaN(microsAt(Buffer.alloc(STAMP_BYTES, 'z'), 0)))
})

t.test('a device id is computed from the number, and the number from the id', async (t) => {
  t.match(deviceOf('abcd1234', 987_654), DEVICE_ID)
  t.equal(indexOf(deviceOf('abcd1234', 987_654)), 987_654)
})

t.test('each 2,000 devices share a source address in the area of the run', async (t) => {
  t.equal(sourceAddress(0), '127.0.0.2')
  t.equal(sourceAddress(2_000), '127.0.0.3')
  t.equal(sourceAddress(999_999), '127.0.1.245')
  t.equal(sourceAddress(2_000 * 254), '127.0.1.0')
  t.equal(sourceAddress(2_000, 77), '127.77.0.3')
})

t.test('the devices of an address and their last 24 connections have distinct, unprivileged ports', async (t) => {
  const ports = new Set<number>()
  for (let nth = 0; nth < 24; nth++) for (let i = 2_000; i < 4_000; i++) ports.add(sourcePort(i, nth))
  t.equal(ports.size, 48_000)
  let [lowest, highest] = [65_536, 0]
  for (const port of ports) [lowest, highest] = [Math.min(lowest, port), Math.max(highest, port)]
  t.ok(lowest > 1_024 && highest < 65_536)
  t.equal(sourcePort(5, 24), sourcePort(5, 0), 'the 25th connection uses the first port again')
})

t.test('split and apportioned shares add up to the whole', async (t) => {
  t.same(split(10, 3), [3, 3, 4])
  t.same(apportion(5, [10, 10, 20]), [1, 1, 3])
  t.equal(
    split(1_000_000, 56).reduce((a, b) => a + b),
    1_000_000,
  )
})

t.test('a tally counts repetitions on the wire and repetitions seen by the app separately', async (t) => {
  const tally = new Tally()
  tally.message(5, 1, 9, 100, 1)
  tally.message(5, 1, 9, 100, 2)
  tally.message(5, 2, 9, 100, 3)
  tally.message(70_000, 3, 9, 100, 4)
  tally.message(Number.NaN, 4, 9, 100, 5)
  t.match(tally, { delivered: 2, duplicatesOnWire: 1, duplicatesSeenByApp: 1, faults: 1 })
})

t.test('a tally recognizes a message of an earlier round', async (t) => {
  const tally = new Tally()
  tally.message(70_000, 3, 9, 100, 4)
  t.match(tally, { delivered: 1, duplicatesOnWire: 0 })
  tally.newRound()
  tally.message(70_000, 3, 9, 100, 6)
  t.match(tally, { delivered: 1, duplicatesOnWire: 1 })
})

t.test('merged histograms of several processes have all samples and the percentiles of all', async (t) => {
  const one = newHistogram()
  const other = newHistogram()
  for (let i = 1; i <= 1000; i++) record(i % 2 ? one : other, i * 1000)
  const merged = latencyMs(mergeHistograms([packHistogram(one), packHistogram(other)]))
  t.equal(merged.count, 1000)
  t.ok(Math.abs(merged.p50 - 500) < 2 && Math.abs(merged.p99 - 990) < 2, JSON.stringify(merged))
})

t.test('the median of an even list is the mean of its middle values', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
})

t.test('slope gives the slope of points on a line', async (t) => {
  t.equal(slope([1, 2, 3].map((x) => ({ x, y: 50 + 7 * x }))), 7)
})

t.test('WebSocket frames of every length form are written and read, and an incomplete frame is not', async (t) => {
  for (const size of [0, 125, 126, 65_535, 65_536]) {
    const payload = Buffer.alloc(size, 7)
    const frame = clientFrame(payload)
    // A client's frame without mask bit and key is a server's frame.
    const head = frame.length - size - 4
    const asServer = Buffer.concat([frame.subarray(0, head), payload])
    asServer[1] = (asServer[1] as number) & 0x7f
    const position = { opcode: 0, start: 0, end: 0 }
    t.ok(readServerFrame(asServer, 0, asServer.length, position))
    t.same(position, { opcode: 2, start: head, end: head + size })
    t.notOk(readServerFrame(asServer, 0, asServer.length - 1, position), 'one byte is missing')
  }
})

t.test('an upgrade answer is read when its head is complete', async (t) => {
  const refusal = Buffer.from('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n')
  t.match(readUpgradeAnswer(refusal, refusal.length), { status: 503, retryAfterMs: 2000 })
  t.equal(readUpgradeAnswer(refusal, 20), null)
})

t.test('the CPU time of a process is read from /proc', async (t) => {
  const before = cpuMicros(process.pid)
  // The loop ends by CPU time, not by wall time, because the machine may be busy.
  const own = process.cpuUsage()
  for (let used = 0; used < 40_000; ) {
    const { user, system } = process.cpuUsage(own)
    used = user + system
  }
  const used = cpuMicros(process.pid) - before
  t.ok(used > 10_000, `${used} us of CPU were used`)
})

t.test('memory, children and existence of a process are read from /proc', async (t) => {
  t.ok(memoryOf(process.pid).rssBytes > 10_000_000)
  t.ok(childrenOf(process.ppid).includes(process.pid))
  t.ok(isAlive(process.pid))
  t.notOk(isAlive(2 ** 22))
})

const flagOptions = Type.Object({
  connections: Type.Integer({ default: 10, minimum: 1, maximum: 100, description: 'How many' }),
  rate: Type.Union([Type.Literal('max'), Type.Integer({ minimum: 1 })], { default: 'max' }),
  rampPerSecond: Type.Integer({ default: 0, minimum: 0 }),
})

function parse(...args: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => undefined })
  addFlags(command, flagOptions)
  command.parse(args, { from: 'user' })
  return pickOptions(flagOptions, command.opts())
}

t.test('flags are made from the schema, with its defaults', async (t) => {
  t.same(parse(), { connections: 10, rate: 'max', rampPerSecond: 0 })
  t.same(parse('--connections', '7', '--rate', '500', '--ramp-per-second', '9'), {
    connections: 7,
    rate: 500,
    rampPerSecond: 9,
  })
})

t.test('values outside of the limits of the schema are refused', async (t) => {
  for (const wrong of ['0', '101', '1.5', 'many', '']) t.throws(() => parse('--connections', wrong), /from 1 to 100/)
  t.throws(() => parse('--rate', 'half'), /"max"/)
})

const finishedRun = {
  scenario: { name: 'try', result: Type.Object({ lost: Type.Integer() }) },
  parameters: { n: 1 },
  startedAtMs: 0,
  endedAtMs: 1500,
  command: 'try',
}

t.test('a sealed result has its scenario, times and versions', async (t) => {
  const envelope = seal({ ...finishedRun, result: { lost: 0 } })
  t.same([...Value.Errors(Envelope, envelope)], [])
  t.match(envelope, { scenario: 'try', startedAt: '1970-01-01T00:00:00.000Z', seconds: 1.5 })
  t.match(envelope.versions, { natsServer: /^v?\d/, uWebSockets: /^\d/ })
})

t.test('a result that does not match its schema is refused', async (t) => {
  t.throws(() => seal({ ...finishedRun, result: {} }), /does not match its schema/)
})

t.test('a cleanup runs its steps once, in reverse order, and continues after an error', async (t) => {
  const cleanup = new Cleanup()
  const done: string[] = []
  cleanup.defer(() => done.push('first'))
  cleanup.defer(() => Promise.reject(new Error('stuck')))
  cleanup.defer(async () => done.push('last'))
  const errors: unknown[] = []
  await Promise.all([cleanup.run((e) => errors.push(e)), cleanup.run((e) => errors.push(e))])
  t.same(done, ['last', 'first'])
  t.match(errors, [/stuck/])
})

t.test('progress on a terminal is a bar', async (t) => {
  let text = ''
  const write = (part: string) => {
    text += part
  }
  new Progress({ isTTY: true, columns: 80, write }).bar('devices', 5, 10)
  t.match(text, /█.*░.* devices 5\/10/)
})

t.test('progress without a terminal is at most three lines, with the last step', async (t) => {
  let text = ''
  const write = (part: string) => {
    text += part
  }
  const plain = new Progress({ write })
  for (let i = 0; i <= 1000; i++) plain.bar('devices', i, 1000)
  t.ok(text.split('\n').length <= 4, text)
  t.match(text, /devices 1000\/1000/)
})

t.test('the columns of a table are aligned', async (t) => {
  t.equal(
    textTable([
      { a: 'x', b: 12345.6 },
      { a: 'longer', b: 0.123456 },
    ]),
    'a       b\nx       12,346\nlonger  0.1235\n',
  )
})

t.test('after a failed push all others are sent, and then the error is thrown', async (t) => {
  const sent: number[] = []
  const pusher = {
    push: async (intendedMicros: number) => {
      sent.push(intendedMicros)
      if (sent.length === 1) throw new Error('refused')
    },
  }
  await t.rejects(pushAtRate(pusher, 1, { perSecond: 100, seconds: 0.2 }), { message: 'refused' })
  t.equal(sent.length, 20)
})
