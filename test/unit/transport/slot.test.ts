/** The places of workers, with processes that do what the test says. */
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
  readonly got: ToWorker[] = []

  send(message: ToWorker): boolean {
    this.got.push(message)
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

  /** Answers what it was asked so far. */
  answer(): void {
    for (const told of this.got) if ('ask' in told) this.emit('message', { answer: told.id, value: null })
  }

  questions(): string[] {
    return this.got.flatMap((told) => ('ask' in told ? [told.ask] : []))
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
  const started = async (one: Slot) => {
    const start = one.start()
    const process = processes.at(-1)
    process?.ready()
    await start
    return process as FakeProcess
  }
  return { clock, processes, failures, slot, started }
}

const out = (what: string) => Object.assign(new Error(what), { code: what })

t.test('a worker that the system could not start is started later', async (t) => {
  const { clock, processes, failures, slot, started } = stage()
  const place = slot(0)
  const first = await started(place)
  failures.push(out('ENOMEM'), out('EAGAIN'))
  first.end('SIGKILL')
  await clock.advance(60_000)
  t.equal(failures.length, 0, 'both attempts failed')
  t.equal(processes.length, 2)
  processes[1]?.ready()
  t.ok(place.isServing)
  await clock.advance(60_000)
  t.equal(processes.length, 2, 'and that was all')
})

t.test('nor does a replacement that could not be started leave a place empty', async (t) => {
  const { clock, processes, failures, slot, started } = stage()
  const place = slot(0)
  const first = await started(place)
  first.end('SIGKILL')
  await clock.advance(0)
  failures.push(out('ENOMEM'))
  processes[1]?.end('SIGKILL')
  await clock.advanceUntil(Promise.resolve())
  t.equal(processes.length, 2, 'the next start is waited for')
  await t.rejects(place.replace(pace), { message: 'ENOMEM' })
  await clock.advance(60_000)
  t.equal(processes.length, 3)
})

t.test('a reload leaves out who leaves', async (t) => {
  const { clock, processes, slot, started } = stage()
  const slots = [slot(0), slot(1)]
  const old = await started(slots[0] as Slot)
  const other = await started(slots[1] as Slot)
  const supervisor = new Supervisor(1, slots, settings, clock, silentLogger)
  const replaced = slots[0]?.replace(pace)
  const next = processes.at(-1) as FakeProcess
  next.ready()
  await clock.advanceUntil(Promise.resolve())
  t.same(old.got, [{ drain: pace }], 'it leaves, and takes its time')

  const reloaded = supervisor.reload()
  await clock.advanceUntil(Promise.resolve())
  for (const process of processes) t.same(process.questions(), process === old ? [] : ['reload'])
  for (const process of [next, other]) process.answer()
  await clock.advanceUntil(reloaded)
  old.end('SIGTERM')
  await replaced
})

t.test('a worker that begins to leave while it is asked makes no reload fail', async (t) => {
  const { clock, slot, started } = stage()
  const slots = [slot(0), slot(1)]
  const leaving = await started(slots[0] as Slot)
  const other = await started(slots[1] as Slot)
  const reloaded = new Supervisor(1, slots, settings, clock, silentLogger).reload()
  await clock.advanceUntil(Promise.resolve())
  t.same(leaving.questions(), ['reload'])
  const stopped = slots[0]?.stop(pace)
  leaving.end('SIGTERM')
  await stopped
  other.answer()
  await clock.advanceUntil(reloaded)
  t.same(other.questions(), ['reload'])
})

t.test('a worker that starts slowly is waited for, and one that never is ready is ended', async (t) => {
  const { clock, processes, slot } = stage()
  const slow = slot(0).start()
  await clock.advance(170_000)
  processes[0]?.ready()
  await slow
  await clock.advance(60_000)
  t.ok(processes[0]?.connected)
  const silent = slot(1).start()
  await Promise.all([
    t.rejects(silent, { message: 'worker 1 ended before it was ready: SIGKILL' }),
    clock.advance(180_000),
  ])
})
