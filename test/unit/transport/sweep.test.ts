import t from 'tap'
import { Greeting, Greetings } from '../../../src/transport/admission/greeting.js'
import { Registry } from '../../../src/transport/session/registry.js'
import type { Socket } from '../../../src/transport/socket/socket.js'
import { Turns } from '../../../src/transport/turns.js'
import { Sweep } from '../../../src/transport/upkeep/sweep.js'

/** Runs timers when the test says so, which may be late. */
function stage() {
  let [nowMs, dueMs] = [0, 0]
  let due = () => {}
  const clock = {
    now: () => nowMs,
    after: (ms: number, run: () => void) => {
      dueMs = nowMs + ms
      due = run
      return () => {}
    },
  }
  const turns = new Turns(
    clock,
    () => {},
    (what, error) => t.fail(`${what}: ${error}`),
  )
  const greetings = new Greetings()
  const timeouts: Greeting[] = []
  const on = {
    helloTimeout: (greeting: Greeting) => {
      greetings.remove(greeting)
      timeouts.push(greeting)
    },
    tick: () => {},
  }
  const sweep = new Sweep(clock, turns, new Registry(), greetings, { helloTimeoutMs: 2_000, idleMs: 1_000 }, on)
  sweep.start()
  greetings.add(new Greeting({} as Socket, turns.now.tick, 0))
  const tick = (lateMs: number) => {
    nowMs = dueMs + lateMs
    due()
    return timeouts.length
  }
  return { tick }
}

t.test('a device has its time for HELLO', async (t) => {
  const { tick } = stage()
  t.equal(tick(0), 0)
  t.equal(tick(0), 0)
  t.equal(tick(0), 1, 'opened in the middle of a second: only after one more')
})

t.test('a worker that is late blames nobody, but not for ever', async (t) => {
  const { tick } = stage()
  for (let i = 0; i < 5; i++) t.equal(tick(500), 0)
  t.equal(tick(0), 1, 'as soon as it is in time again')
  const other = stage()
  for (let i = 0; i < 8; i++) t.equal(other.tick(500), 0)
  t.equal(other.tick(500), 1, 'four times the time is enough')
})
