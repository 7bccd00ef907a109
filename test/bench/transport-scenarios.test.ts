import t from 'tap'
import type { Cost } from '../../bench/profile/cost.js'
import { smoke } from './support/smoke.js'

// Each test starts a system of several processes, on a machine that may be busy.
t.setTimeout(240_000)

t.test('idle reports every field and no disconnect of 60 silent devices', async (t) => {
  const result = await smoke(t, 'idle', { connections: 60, seconds: 1, steps: 3, keepaliveSeconds: 5 })
  t.match(result, { connections: 60, unexpectedDisconnects: 0 })
})

t.test('unicast loses no message, and gets a report for each', async (t) => {
  const result = await smoke(t, 'unicast', { connections: 50, seconds: 2, rounds: 2, window: 100, rate: 'max' })
  t.match(result, { lost: 0, duplicates: 0, outcomes: { NOT_HERE: 0, CLOSED: 0 } })
  t.ok((result.sent as number) > 100)
  t.equal((result.outcomes as { ACKED: number }).ACKED, result.sent, 'an outcome for each message')
})

t.test('unicast with --rate sends exactly that number of messages a second', async (t) => {
  const result = await smoke(t, 'unicast', { connections: 20, seconds: 1, rounds: 1, rate: 100 })
  t.match(result, { lost: 0, latencyRatePerSecond: 100, sent: 200 })
})

t.test('broadcast loses and repeats no message', async (t) => {
  const result = await smoke(t, 'broadcast', { connections: 50, messages: 4, rounds: 2 })
  t.match(result, { lost: 0, duplicates: 0, unexpectedDisconnects: 0 })
})

t.test('connect has no refused handshake and no disconnect', async (t) => {
  const result = await smoke(t, 'connect', { connections: 50, rounds: 1 })
  t.match(result, { refused: 0, unexpectedDisconnects: 0 })
})

for (const of of ['unicast', 'broadcast', 'connect', 'resume']) {
  t.test(`profile of ${of}: the parts add up to the CPU that the OS counted`, async (t) => {
    const result = await smoke(t, 'profile', { of, connections: 50, seconds: 1, rounds: 1, window: 100, messages: 4 })
    const { borealis } = result as { borealis: Cost }
    t.ok(borealis.operations >= 50)
    const sum = borealis.parts.reduce((micros, part) => micros + part.micros, 0)
    const off = Math.abs(sum - borealis.cpuMicros) / borealis.cpuMicros
    t.ok(off < 0.05, `parts (${sum} us) add up to what the OS counted (${borealis.cpuMicros} us)`)
  })
}

t.test('scale measures each size and loses no message', async (t) => {
  const result = await smoke(t, 'scale', {
    connections: '20,60',
    rate: 100,
    seconds: 2,
    idleSeconds: 1,
    rounds: 2,
    workers: 1,
    // With more generators than CPU cores some must wait for their ramp.
    generators: 5,
  })
  t.match(result, {
    lost: 0,
    duplicates: 0,
    unexpectedDisconnects: 0,
    sizes: [{ connections: 20 }, { connections: 60 }],
  })
})

t.test('in hostile the attackers are disconnected, and the other devices lose no message', async (t) => {
  const result = await smoke(t, 'hostile', { connections: 20, rate: 50, seconds: 1, attackers: 3 })
  t.match(result, { lost: 0, unexpectedDisconnects: 0 })
  const { garbage, oversized } = result.attacks as Record<string, { opened: number; ended: number }>
  t.ok((garbage?.ended ?? 0) > 0 && (oversized?.ended ?? 0) > 0, 'a message that is no frame ends the connection')
})
