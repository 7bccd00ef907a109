/**
 * How a worker leaves: no new connections; GOAWAY to all devices, spread over time; a moment for the last
 * acknowledgements; then the sockets are closed, each with a tombstone.
 */
import { type Clock, sleep } from '../clock.js'
import type { Effects } from './effects.js'
import type { Registry } from './registry.js'
import type { Turns } from './turns.js'

const SLICE_MS = 100

export interface DrainPace {
  /** All GOAWAYs are out after so long. */
  drainMs: number
  drainPerSecondMax: number
  drainGraceMs: number
}

export async function drain(
  parts: { clock: Clock; turns: Turns; registry: Registry; effects: Effects },
  pace: DrainPace,
): Promise<void> {
  const { clock, turns, registry, effects } = parts
  const sessions = registry.all()
  const slices = pace.drainMs / SLICE_MS
  const perSlice = Math.max(
    1,
    Math.ceil((pace.drainPerSecondMax * SLICE_MS) / 1000),
    Math.ceil(sessions.length / slices),
  )
  const jitterMs = Math.ceil(sessions.length / perSlice) * SLICE_MS
  for (let from = 0; from < sessions.length; from += perSlice) {
    if (from > 0) await sleep(clock, SLICE_MS)
    turns.run('goaway', () => {
      for (const session of sessions.slice(from, from + perSlice)) {
        if (session.state === 'closed') continue
        effects.send(session, { type: 'GOAWAY', reason: 'shutdown', afterMs: 0, jitterMs, url: '' })
      }
    })
  }
  await acknowledged(parts, pace.drainGraceMs)
  for (const session of registry.all()) turns.run('drain', () => effects.close(session, 'going_away'))
}

/** Until nobody owes us an acknowledgement, or the grace is over. */
async function acknowledged(parts: { clock: Clock; registry: Registry }, graceMs: number): Promise<void> {
  const { clock, registry } = parts
  const deadlineMs = clock.now() + graceMs
  const isOwed = () => registry.all().some((session) => session.unacknowledged > 0)
  while (clock.now() < deadlineMs && isOwed()) await sleep(clock, SLICE_MS)
}
