/** A rolling restart: the workers that listen, the pace at which devices are asked to leave, and the IPC messages. */
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

t.test('only new workers with fewer sessions than their share listen; without a new worker all do', async (t) => {
  const oldWorker = { isNew: false, sessions: 100 }
  const newWorker = (sessions: number) => ({ isNew: true, sessions })
  t.same(workersToListen([oldWorker, oldWorker], 100), [true, true], 'no new worker')
  t.same(workersToListen([oldWorker, newWorker(0), oldWorker], 100), [false, true, false])
  t.same(workersToListen([newWorker(100), newWorker(99), oldWorker], 100), [false, true, false], 'one has its share')
  t.same(workersToListen([newWorker(100), newWorker(120), oldWorker], 100), [true, true, false], 'both have it')
  t.same(workersToListen([], 100), [])
})

t.test('in a restart devices are asked to leave as fast as they return, within the rate', async (t) => {
  const restart = { ...drainPace({ ...settings, drainPerSecondMax: 2_000, restartMs: 30_000 }, 'upgrade') }
  t.equal(dueInSlice(restart, 3_000, 0, 0), 100, 'the first slice')
  t.equal(dueInSlice(restart, 3_000, 100, 0), 10, 'no device has returned: the fewest that end in restartMs')
  t.equal(
    dueInSlice({ ...restart, drainJitterMs: 0 }, 3_000, 500, 1_000),
    100,
    'the devices of half a second may be away',
  )
  t.equal(dueInSlice({ ...restart, drainJitterMs: 250 }, 3_000, 750, 1_000), 100, 'those of the jitter may be away too')
  t.equal(dueInSlice(restart, 3_000, 0, 5_000), 200, 'never faster than drainPerSecondMax')
  t.equal(dueInSlice(restart, 90_000, 50_000, 0), 300)
})

t.test('in a shutdown devices are asked to leave at the rate, whether they have returned or not', async (t) => {
  const shutdown = drainPace({ ...settings, drainPerSecondMax: 2_000, drainMs: 10_000 }, 'shutdown')
  t.equal(dueInSlice(shutdown, 3_000, 3_000, 0), 200)
  t.equal(dueInSlice(shutdown, 90_000, 0, 0), 900)
})

/** A worker process with a number of sessions, which records the messages from its supervisor. */
class FakeWorker extends EventEmitter {
  readonly pid = 1
  connected = true
  listens = true
  sessions: number
  leaving = false
  readonly received: ToWorker[] = []

  constructor(sessions: number) {
    super()
    this.sessions = sessions
  }

  send(message: ToWorker): boolean {
    this.received.push(message)
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

  /** The values of devicesElsewhere that the supervisor sent, in order. */
  get devicesElsewhere(): number[] {
    return this.received.flatMap((message) => ('devicesElsewhere' in message ? [message.devicesElsewhere] : []))
  }
}

t.test('a rolling restart of three workers with 100 sessions each', async (t) => {
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
  // In each tenth of a second, ten devices of the leaving worker move to workers that listen.
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
  const newWorkers = workers.slice(WORKERS)

  await t.test('replaces each worker once, in order', async (t) => {
    t.same(replaced, [0, 1, 2])
    t.equal(workers.length, 2 * WORKERS)
  })

  await t.test('moves each device once, to a new worker', async (t) => {
    t.equal(toOld, 0)
    t.equal(moved, WORKERS * EACH)
  })

  await t.test('leaves each new worker listening, with about its share of the devices', async (t) => {
    t.ok(newWorkers.every((worker) => worker.listens))
    for (const { sessions } of newWorkers) t.ok(Math.abs(sessions - EACH) <= 50, `${sessions} sessions`)
  })

  await t.test('sends each old worker the rising number of devices elsewhere', async (t) => {
    for (const { devicesElsewhere } of old) {
      t.ok(devicesElsewhere.length > 3)
      t.ok(devicesElsewhere.every((count, i) => count >= (devicesElsewhere[i - 1] ?? 0)))
    }
  })
})

t.test('if no new worker starts, the restart fails and the old workers go on listening', async (t) => {
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
