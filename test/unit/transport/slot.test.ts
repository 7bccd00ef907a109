/** Slots, each of which runs one worker after the other, with worker processes that the test controls. */
import type { ChildProcess } from 'node:child_process'
import { EventEmitter } from 'node:events'
import t from 'tap'
import { Value } from 'typebox/value'
import { silentLogger } from '../../../src/observe/log.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import type { ToWorker } from '../../../src/transport/supervisor/ipc.js'
import { Slot } from '../../../src/transport/supervisor/slot.js'
import { Supervisor } from '../../../src/transport/supervisor/supervisor.js'
import { drainPace } from '../../../src/transport/upkeep/drain.js'
import { VirtualClock } from '../../sim/clock.js'

const settings = Value.Default(TransportSettings, {}) as TransportSettings
const pace = drainPace(settings, 'upgrade')

class FakeProcess extends EventEmitter {
  readonly pid = 1
  connected = true
  readonly received: ToWorker[] = []

  send(message: ToWorker): boolean {
    this.received.push(message)
    return true
  }

  kill(signal: string): boolean {
    this.end(signal)
    return true
  }

  end(signal: string): void {
    this.connected = false
    this.emit('exit', null, signal)
  }

  ready(): void {
    this.emit('message', { ready: {} })
  }

  /** Answers each request received so far. */
  answer(): void {
    for (const message of this.received) {
      if ('ask' in message) this.emit('message', { answer: message.id, value: null })
    }
  }

  requests(): string[] {
    return this.received.flatMap((message) => ('ask' in message ? [message.ask] : []))
  }
}

function stage() {
  const clock = new VirtualClock()
  const processes: FakeProcess[] = []
  const failures: Error[] = []
  const spawn = () => {
    const failure = failures.shift()
    if (failure) throw failure
    const process = new FakeProcess()
    processes.push(process)
    return process as unknown as ChildProcess
  }
  const slot = (index: number) =>
    new Slot(index, 1, {
      ...{ clock, spawn, random: () => 0.5, log: silentLogger, restartBackoffMs: 100, onEnded: () => {} },
    })
  const started = async (slot: Slot) => {
    const start = slot.start()
    const process = processes.at(-1)
    process?.ready()
    await start
    return process as FakeProcess
  }
  return { clock, processes, failures, slot, started }
}

const spawnError = (code: string) => Object.assign(new Error(code), { code })

t.test('a worker process whose start fails twice is started at the third attempt, once', async (t) => {
  const { clock, processes, failures, slot, started } = stage()
  const place = slot(0)
  const first = await started(place)
  failures.push(spawnError('ENOMEM'), spawnError('EAGAIN'))
  first.end('SIGKILL')
  await clock.advance(60_000)
  t.equal(failures.length, 0, 'both attempts failed')
  t.equal(processes.length, 2)
  processes[1]?.ready()
  t.ok(place.isServing)
  await clock.advance(60_000)
  t.equal(processes.length, 2, 'no further process')
})

t.test('after a replacement that could not be started, the slot starts a worker later', async (t) => {
  const { clock, processes, failures, slot, started } = stage()
  const place = slot(0)
  const first = await started(place)
  first.end('SIGKILL')
  await clock.advance(0)
  failures.push(spawnError('ENOMEM'))
  processes[1]?.end('SIGKILL')
  await clock.advanceUntil(Promise.resolve())
  t.equal(processes.length, 2, 'the slot waits before the next start')
  await t.rejects(place.replace(pace), { message: 'ENOMEM' })
  await clock.advance(60_000)
  t.equal(processes.length, 3)
})

t.test('a reload asks no worker that is draining', async (t) => {
  const { clock, processes, slot, started } = stage()
  const slots = [slot(0), slot(1)]
  const old = await started(slots[0] as Slot)
  const other = await started(slots[1] as Slot)
  const supervisor = new Supervisor(1, slots, settings, clock, silentLogger)
  const replaced = slots[0]?.replace(pace)
  const next = processes.at(-1) as FakeProcess
  next.ready()
  await clock.advanceUntil(Promise.resolve())
  t.same(old.received, [{ drain: pace }], 'the old worker is draining')

  const reloaded = supervisor.reload()
  await clock.advanceUntil(Promise.resolve())
  for (const process of processes) t.same(process.requests(), process === old ? [] : ['reload'])
  for (const process of [next, other]) process.answer()
  await clock.advanceUntil(reloaded)
  old.end('SIGTERM')
  await replaced
})

t.test('a reload succeeds although a worker that it asked stops before it answers', async (t) => {
  const { clock, slot, started } = stage()
  const slots = [slot(0), slot(1)]
  const leaving = await started(slots[0] as Slot)
  const other = await started(slots[1] as Slot)
  const reloaded = new Supervisor(1, slots, settings, clock, silentLogger).reload()
  await clock.advanceUntil(Promise.resolve())
  t.same(leaving.requests(), ['reload'])
  const stopped = slots[0]?.stop(pace)
  leaving.end('SIGTERM')
  await stopped
  other.answer()
  await clock.advanceUntil(reloaded)
  t.same(other.requests(), ['reload'])
})

t.test('a worker that is ready after 170 s is kept', async (t) => {
  const { clock, processes, slot } = stage()
  const slow = slot(0).start()
  await clock.advance(170_000)
  processes[0]?.ready()
  await slow
  await clock.advance(60_000)
  t.ok(processes[0]?.connected)
})

t.test('a worker that is not ready after 180 s is killed', async (t) => {
  const { clock, slot } = stage()
  const silent = slot(1).start()
  await Promise.all([
    t.rejects(silent, { message: 'worker 1 ended before it was ready: SIGKILL' }),
    clock.advance(180_000),
  ])
})
