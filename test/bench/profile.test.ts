/** Tests of `bench profile`: the assignment of CPU samples to parts, and the cost of one operation. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { cpuSince, readCpu } from '../../bench/measure/cpu-usage.js'
import { costOf, OTHER_THREADS, READING, withUnseen } from '../../bench/profile/cost.js'
import { type CpuProfile, partTimes } from '../../bench/profile/parts.js'
import { placeOf } from '../../bench/profile/places.js'
import { Profiler } from '../../bench/profile/profiler.js'
import { partRows } from '../../bench/profile/table.js'

const DIST = 'file:///x/dist/'
const frame = (functionName: string, url = '') => ({ functionName, url })
const listener = frame('send', `${DIST}src/transport/socket/listener.js`)

/** (root) > deliver > send > send (native); (idle); (garbage collector); parse; (program). Ids 1 to 8. */
const profile: CpuProfile = {
  startTime: 1_000,
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 5, 6, 7, 8] },
    { id: 2, callFrame: frame('deliver', `${DIST}src/transport/delivery/downlink.js`), children: [3] },
    { id: 3, callFrame: listener, children: [4] },
    { id: 4, callFrame: frame('send') },
    { id: 5, callFrame: frame('(idle)') },
    { id: 6, callFrame: frame('(garbage collector)') },
    { id: 7, callFrame: frame('parse', 'file:///x/node_modules/nats/lib/nats-base-client/parser.js') },
    { id: 8, callFrame: frame('(program)') },
  ],
  // A sample every 100 us. Twice the thread has no core, for 5 and 3 ms. The sample before is unknown, the one after late.
  samples: [2, 4, 4, 4, 4, 5, 6, 7, 4, 4, 8, 5],
  timeDeltas: [100, 100, 101, 99, 5_000, 40, 100, 100, 100, 3_000, 30, 100],
}

t.test('late samples do not count, and unknown ones are distributed like the known ones', async (t) => {
  const { samples, samplesOnTime, busyMicros, parts } = partTimes([profile])
  t.same([samples, samplesOnTime], [10, 6])
  t.equal(busyMicros, 750, 'six of eight known samples are busy, so 7.5 of ten')
  const part = (name: string, micros: number, ...functions: string[]) => ({
    part: name,
    micros,
    functions: functions.map((one) => ({ name: one, micros })),
  })
  t.same(parts, [
    part('uWebSockets.js', 250, 'send'),
    part('src/transport/delivery/downlink.ts', 125, 'deliver'),
    part('V8 garbage collection', 125, '(garbage collector)'),
    part('nats client', 125, 'parser.js parse'),
    part('(program)', 125, '(program)'),
  ])
})

t.test('only samples within a window count', async (t) => {
  // The first window has the second sample, a send; the second has the collector and the parser.
  const windows = [
    { fromMicros: 1_150, toMicros: 1_250 },
    { fromMicros: 6_500, toMicros: 6_700 },
  ]
  const { samples, parts } = partTimes([profile, profile], windows)
  t.equal(samples, 6, 'three samples of each of two processes')
  t.same(
    parts.map(({ part, micros }) => [part, micros]),
    [
      ['uWebSockets.js', 200],
      ['V8 garbage collection', 200],
      ['nats client', 200],
    ],
  )
})

t.test('the part of a script is its file, its package or its region of Node', async (t) => {
  const partOf = (url: string) => placeOf(frame('f', url), []).part
  t.equal(partOf(`${DIST}protocol/encode.js`), 'protocol/encode.ts')
  t.equal(partOf('file:///x/node_modules/@scope/name/dist/src/index.js'), '@scope/name')
  t.equal(partOf('node:internal/crypto/hash'), 'node crypto')
  t.equal(partOf('node:internal/stream_base_commons'), 'node sockets and streams')
  t.equal(partOf('node:internal/process/task_queues'), 'node event loop')
  t.equal(partOf('node:buffer'), 'node buffers and texts')
  t.equal(partOf('node:diagnostics_channel'), 'node, other modules')
  t.equal(partOf('evalmachine.<anonymous>'), 'other scripts')
})

t.test('the part of a native function is that of its caller, or uWebSockets.js', async (t) => {
  const native = (name: string, ...callers: ReturnType<typeof frame>[]) => placeOf(frame(name), callers)
  t.same(native('getHeader', listener), { part: 'uWebSockets.js', name: 'getHeader' })
  t.same(native('slice', listener), { part: 'src/transport/socket/listener.ts', name: 'slice (native)' })
  t.match(native('send', frame('f', `${DIST}src/transport/session/session.js`)), {
    part: 'src/transport/session/session.ts',
  })
  t.same(native('writeBuffer', frame('call'), frame('write', 'node:internal/stream_base_commons')), {
    part: 'node sockets and streams',
    name: 'writeBuffer (native)',
  })
})

t.test(
  'CPU time that no sample shows is assigned to other threads and to reading, from the readings of the OS',
  async (t) => {
    const of = (sampled: number) =>
      withUnseen([{ part: 'a', micros: sampled, functions: [] }], 15, 10).map(({ part, micros }) => [part, micros])
    t.same(of(6), [
      ['a', 6],
      [OTHER_THREADS, 5],
      [READING, 4],
    ])
    t.same(
      of(40),
      [
        ['a', 10],
        [OTHER_THREADS, 5],
        [READING, 0],
      ],
      'samples above the CPU time of the thread are scaled down to it',
    )
  },
)

t.test('a cost is the CPU time of one operation, and the table has rows for the parts of both sides', async (t) => {
  const cpu = {
    fromMicros: 0,
    toMicros: 10_000,
    serverMicros: 1_500,
    mainMicros: 1_000,
    samplerMicros: 300,
    behindMicros: 50,
  }
  const measurement = (operations: number) => ({ operations, perSecond: 1, cpu })
  const borealis = costOf({
    plain: [measurement(10), measurement(15), measurement(30)],
    profiled: [measurement(10)],
    profiles: [profile],
  })
  t.match(borealis, { operations: 10, cpuMicros: 100, profiledCpuMicros: 120, samples: 10, samplesOnTime: 6 })
  t.same(
    borealis.parts.slice(0, 3).map(({ part, micros, percent }) => [part, micros, percent]),
    [
      ['uWebSockets.js', 20.8, 20.8],
      [READING, 20.8, 20.8],
      [OTHER_THREADS, 16.7, 16.7],
    ],
  )
  t.same(borealis.parts[0]?.functions, [{ name: 'send', micros: 20.8 }])
  const bare = { ...borealis, parts: [{ part: 'only in bare', micros: 7, percent: 100, functions: [] }] }
  const rows = partRows({ borealis, bare })
  t.equal(rows.length, borealis.parts.length + 1)
  t.match(rows.at(-1), { part: 'only in bare', us: '', 'bare us': 7 })
})

t.test('a running process is profiled from one signal to the next', async (t) => {
  const profiler = new Profiler(t.testdir())
  const script = `setInterval(function burn() { for (let i = 0; i < 3e6; i++); }, 1); console.log('runs')`
  const child = spawn(process.execPath, [...profiler.nodeOptions, '-e', script], {
    env: { ...process.env, ...profiler.environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const pid = child.pid as number
  const processes = { serverPids: [pid], behindPids: [] }
  await profiler.start([pid])
  const before = readCpu(processes)
  await sleep(300)
  const spent = cpuSince(before, processes)
  const [recorded] = await profiler.stop([pid])
  const { startTime = 0, nodes = [], timeDeltas = [] } = recorded ?? {}
  const endMicros = timeDeltas.reduce((at, delta) => at + delta, startTime)
  t.ok(startTime < spent.fromMicros && endMicros > spent.fromMicros, 'the profile and the reading have the same clock')
  t.ok(nodes.some(({ callFrame }) => callFrame.functionName === 'burn'))
  t.ok(spent.mainMicros > 0 && spent.mainMicros <= spent.serverMicros)
  t.ok(spent.samplerMicros > 0, 'the thread of the profiler is found by its name')
  await profiler.start([pid])
  t.equal((await profiler.stop([pid])).length, 1, 'a second profile can be taken')
})
