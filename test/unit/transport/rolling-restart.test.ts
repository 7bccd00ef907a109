/** A rolling restart: who listens, how fast devices are asked to leave, and what workers are told. */
import type { ChildProcess } from 'node:child_process'
import { EventEmitter } from 'node:events'
import t from 'tap'
import { Value } from 'typebox/value'
import { silentLogger } from '../../../src/observe/log.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import type { ToWorker } from '../../../src/transport/supervisor/ipc.js'
import { workersToListen } from '../../../src/transport/supervisor/listen-gate.js'
import { RollingRestart } from '../../../src/transport/supervisor/rolling-restart.js'
import { Slot } from '../../../src/transport/supervisor/slot.js'
import { drainPace, dueInSlice } from '../../../src/transport/upkeep/drain.js'
import { VirtualClock } from '../../sim/clock.js'

const settings = Value.Default(TransportSettings, {}) as TransportSettings

t.test('which workers listen', async (t) => {
  const old = { isNew: false, sessions: 100 }
  const isNew = (sessions: number) => ({ isNew: true, sessions })
  t.same(workersToListen([old, old], 100), [true, true], 'nobody new: all')
  t.same(workersToListen([old, isNew(0), old], 100), [false, true, false])
  t.same(
    workersToListen([isNew(100), isNew(99), old], 100),
    [false, true, false],
    'who has its share leaves room to the next',
  )
  t.same(workersToListen([isNew(100), isNew(120), old], 100), [true, true, false], 'somebody listens in any case')
  t.same(workersToListen([], 100), [])
})

t.test('devices are asked to leave as fast as they are back', async (t) => {
  const restart = { ...drainPace({ ...settings, drainPerSecondMax: 2_000, restartMs: 30_000 }, 'upgrade') }
  t.equal(dueInSlice(restart, 3_000, 0, 0), 100, 'the first')
  t.equal(dueInSlice(restart, 3_000, 100, 0), 10, 'nobody is back: only so many that the time is kept')
  t.equal(
    dueInSlice({ ...restart, drainJitterMs: 0 }, 3_000, 500, 1_000),
    100,
    'those of half a second may be away, and some',
  )
  t.equal(
    dueInSlice({ ...restart, drainJitterMs: 250 }, 3_000, 750, 1_000),
    100,
    'and those who take the jitter they were asked to',
  )
  t.equal(dueInSlice(restart, 3_000, 0, 5_000), 200, 'never faster than the rate')
  t.equal(dueInSlice(restart, 90_000, 50_000, 0), 300)
  const shutdown = drainPace({ ...settings, drainPerSecondMax: 2_000, drainMs: 10_000 }, 'shutdown')
  t.equal(dueInSlice(shutdown, 3_000, 3_000, 0), 200, 'an instance that leaves waits for nobody')
  t.equal(dueInSlice(shutdown, 90_000, 0, 0), 900)
})

/** A worker with devices: when it leaves they go to those that listen, and it ends. */
class FakeWorker extends EventEmitter {
  readonly pid = 1
  connected = true
  listens = true
  sessions: number
  leaving = false
  readonly told: ToWorker[] = []

  constructor(sessions: number) {
    super()
    this.sessions = sessions
  }

  send(message: ToWorker): boolean {
    this.told.push(message)
    if ('ask' in message) {
      const value = message.ask === 'sessions' ? this.sessions : null
      queueMicrotask(() => this.emit('message', { answer: message.id, value }))
    } else if ('listen' in message) this.listens = message.listen
    else if ('drain' in message) {
      this.leaving = true
      this.listens = false
    }
    return true
  }

  kill(): boolean {
    return true
  }

  end(): void {
    this.connected = false
    this.listens = false
    this.emit('exit', 0, null)
  }

  get elsewhere(): number[] {
    return this.told.flatMap((message) => ('devicesElsewhere' in message ? [message.devicesElsewhere] : []))
  }
}

t.test('each device moves once: to new workers with room, and at the end all listen', async (t) => {
  const clock = new VirtualClock()
  const [WORKERS, EACH] = [3, 100]
  const workers: FakeWorker[] = []
  const spawn = () => {
    const worker = new FakeWorker(workers.length < WORKERS ? EACH : 0)
    workers.push(worker)
    queueMicrotask(() => worker.emit('message', { ready: {} }))
    return worker as unknown as ChildProcess
  }
  const options = { clock, spawn, random: () => 0.5, log: silentLogger, restartBackoffMs: 100, onEnded: () => {} }
  const slots = Array.from({ length: WORKERS }, (_, index) => new Slot(index, 1, options, WORKERS))
  for (const slot of slots) await clock.advanceUntil(slot.start())
  const old = [...workers]
  let moved = 0
  let toOld = 0
  // Ten devices of whoever leaves move in each tenth of a second.
  const move = () => {
    const from = workers.find(({ leaving, connected }) => leaving && connected)
    if (from) {
      const open = workers.filter(({ listens }) => listens)
      for (let i = 0; i < 10 && from.sessions > 0; i++) {
        const to = open[moved++ % open.length]
        if (!to) return
        from.sessions--
        to.sessions++
        if (old.includes(to)) toOld++
      }
      if (from.sessions === 0) from.end()
    }
    clock.after(100, move)
  }
  move()
  const replaced: number[] = []
  const restart = new RollingRestart(slots, clock, drainPace(settings, 'upgrade'))
  await clock.advanceUntil(restart.run(({ index }) => replaced.push(index)))
  t.same(replaced, [0, 1, 2])
  t.equal(workers.length, 2 * WORKERS)
  t.equal(toOld, 0)
  t.equal(moved, WORKERS * EACH, 'each once')
  const [first, second, third] = workers.slice(WORKERS)
  t.ok([first, second, third].every((worker) => worker?.listens))
  for (const worker of [first, second, third]) t.ok(Math.abs((worker?.sessions ?? 0) - EACH) <= 50, 'about its share')
  for (const worker of old) {
    const { elsewhere } = worker
    t.ok(elsewhere.length > 3)
    t.ok(
      elsewhere.every((count, i) => count >= (elsewhere[i - 1] ?? 0)),
      'more and more are elsewhere',
    )
  }
})

t.test('where no new worker starts, the old ones go on', async (t) => {
  const clock = new VirtualClock()
  const workers: FakeWorker[] = []
  const spawn = () => {
    const worker = new FakeWorker(10)
    workers.push(worker)
    queueMicrotask(() => (workers.length > 2 ? worker.end() : worker.emit('message', { ready: {} })))
    return worker as unknown as ChildProcess
  }
  const options = { clock, spawn, random: () => 0.5, log: silentLogger, restartBackoffMs: 100, onEnded: () => {} }
  const slots = [0, 1].map((index) => new Slot(index, 1, options, 2))
  for (const slot of slots) await clock.advanceUntil(slot.start())
  const restart = new RollingRestart(slots, clock, drainPace(settings, 'upgrade'))
  await t.rejects(clock.advanceUntil(restart.run(() => undefined)), { message: /ended before it was ready/ })
  t.same(
    workers.slice(0, 2).map(({ listens, leaving }) => ({ listens, leaving })),
    [
      { listens: true, leaving: false },
      { listens: true, leaving: false },
    ],
  )
})
