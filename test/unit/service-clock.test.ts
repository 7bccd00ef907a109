/** The time of the service, on clocks in the hands of the test. */
import t from 'tap'
import { BrokerError } from '../../src/nats/broker.js'
import { ServiceClock } from '../../src/store/service-clock.js'

const HOUR_MS = 3_600_000
const START_MS = Date.UTC(2026, 0, 1)

/** A machine whose clock is wrong, and a store whose clock is right. */
class Machine {
  readonly wrong: number[] = []
  readonly errors: unknown[] = []
  readonly clock: ServiceClock
  private steady = 5_000
  private timer: (() => void) | null = null

  constructor(public aheadMs: number) {
    const local = {
      now: () => this.trueMs + this.aheadMs,
      steadyMs: () => this.steady,
      after: (_ms: number, fn: () => void) => {
        this.timer = fn
        return () => {
          this.timer = null
        }
      },
    }
    this.clock = new ServiceClock(local, {
      onWrong: (aheadMs) => this.wrong.push(aheadMs),
      onError: (error) => this.errors.push(error),
    })
  }

  get trueMs(): number {
    return START_MS + this.steady
  }

  get errorMs(): number {
    return this.clock.now() - this.trueMs
  }

  get isAsking(): boolean {
    return this.timer !== null
  }

  pass(ms: number): void {
    this.steady += ms
  }

  /**
   * Gives a read of the store: the record is stored after `thereMs`, and read `backMs` later. Of several pairs, each
   * read takes the next one.
   */
  ask(...ways: [thereMs: number, backMs: number][]) {
    return async () => {
      const [there, back] = ways.length > 1 ? (ways.shift() as [number, number]) : (ways[0] as [number, number])
      this.pass(there)
      const storedAtMs = this.trueMs
      this.pass(back)
      return storedAtMs
    }
  }

  /** Runs the next read of the running clock to its end. */
  async next(): Promise<void> {
    this.timer?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

t.test('a clock that is an hour off follows the store to within the time of an answer, and is reported', async (t) => {
  for (const aheadMs of [HOUR_MS, -HOUR_MS]) {
    const machine = new Machine(aheadMs)
    await machine.clock.follow(machine.ask([3, 4]))
    t.ok(Math.abs(machine.errorMs) <= 4, `${machine.errorMs} ms`)
    t.equal(machine.wrong.length, 1, 'reported once')
    t.ok(Math.abs((machine.wrong[0] ?? 0) - aheadMs) < 10)
  }
})

t.test('a clock that is right is neither moved nor reported', async (t) => {
  const machine = new Machine(0)
  await machine.clock.follow(machine.ask([60, 1]))
  t.equal(machine.errorMs, 0)
  t.same(machine.wrong, [])
})

t.test('when the clock of the machine is set, the time of the service goes on', async (t) => {
  const machine = new Machine(0)
  await machine.clock.follow(machine.ask([1, 1]))
  for (const aheadMs of [HOUR_MS, -HOUR_MS, 0]) {
    machine.aheadMs = aheadMs
    machine.pass(700)
    t.equal(machine.errorMs, 0)
    await machine.next()
    t.equal(machine.errorMs, 0)
  }
  t.equal(machine.wrong.length, 1, 'reported when it becomes wrong, and not again while it stays wrong')
})

t.test('a start that was frozen while it waited for the answer asks again', async (t) => {
  const machine = new Machine(HOUR_MS)
  await machine.clock.follow(machine.ask([0, 9_000], [2, 2]))
  t.ok(Math.abs(machine.errorMs) <= 2, `${machine.errorMs} ms`)
})

t.test('a slow answer that does not contradict a running clock leaves it as it is', async (t) => {
  const machine = new Machine(HOUR_MS)
  await machine.clock.follow(machine.ask([1, 1], [30_000, 1], [1, 30_000], [1, 1]))
  const errorBeforeMs = machine.errorMs
  for (let i = 0; i < 3; i++) await machine.next()
  t.equal(machine.errorMs, errorBeforeMs)
})

const unavailable = async () => {
  throw new BrokerError('unavailable', 'away')
}

t.test('a start without the store fails', async (t) => {
  await t.rejects(new Machine(0).clock.follow(unavailable), { code: 'unavailable' })
})

t.test('a running clock that loses the store keeps its time and asks again', async (t) => {
  const machine = new Machine(HOUR_MS)
  let isAway = false
  const ask = machine.ask([1, 1])
  await machine.clock.follow(() => (isAway ? unavailable() : ask()))
  isAway = true
  await machine.next()
  machine.pass(60_000)
  t.ok(Math.abs(machine.errorMs) <= 2)
  t.match(machine.errors, [{ code: 'unavailable' }])
  t.ok(machine.isAsking)
  await machine.clock.stop()
  t.notOk(machine.isAsking)
})
