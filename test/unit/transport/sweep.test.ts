import t from 'tap'
import { Greeting, Greetings } from '../../../src/transport/admission/greeting.js'
import { Registry } from '../../../src/transport/session/registry.js'
import type { Socket } from '../../../src/transport/socket/socket.js'
import { Turns } from '../../../src/transport/turns.js'
import { Sweep } from '../../../src/transport/upkeep/sweep.js'

/** A sweep with one connection that has not sent HELLO. The test runs the timer, late if it wants. */
function stage() {
  let [nowMs, dueMs] = [0, 0]
  let due = () => {}
  const clock = {
    now: () => nowMs,
    steadyMs: () => nowMs,
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
  /** Runs the next sweep `lateMs` late. Returns the number of timed out connections. */
  const tick = (lateMs: number) => {
    nowMs = dueMs + lateMs
    due()
    return timeouts.length
  }
  return { tick }
}

t.test('a connection without HELLO times out after helloTimeoutMs, rounded up to whole ticks', async (t) => {
  const { tick } = stage()
  t.equal(tick(0), 0)
  t.equal(tick(0), 0)
  t.equal(tick(0), 1, 'the third tick, because the connection opened within the first')
})

t.test('late sweeps time out no connection, and the first punctual one does', async (t) => {
  const { tick } = stage()
  for (let i = 0; i < 5; i++) t.equal(tick(500), 0)
  t.equal(tick(0), 1)
})

t.test(
  'a connection without HELLO times out after four times helloTimeoutMs, although all sweeps are late',
  async (t) => {
    const { tick } = stage()
    for (let i = 0; i < 8; i++) t.equal(tick(500), 0)
    t.equal(tick(500), 1)
  },
)
