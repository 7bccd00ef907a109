/**
 * How a worker leaves: no new connections; GOAWAY to its devices at a set rate; each leaves within the jitter window and
 * connects to whoever listens; a moment for the last acknowledgements; then the sockets that are left are closed. No
 * tombstones: the lease that is released after it speaks for all.
 */
import type { GoawayReason } from '../../protocol/frame-types.js'
import { type Clock, sleep } from '../clock.js'
import type { Effects } from './effects.js'
import type { Registry } from './registry.js'
import type { Session } from './session.js'
import type { Turns } from './turns.js'

const SLICE_MS = 100

export interface DrainPace {
  /** All GOAWAYs are out after so long, whatever the rate. */
  drainMs: number
  /** GOAWAYs a second. */
  drainPerSecondMax: number
  /** Each device leaves within so long after its GOAWAY. */
  drainJitterMs: number
  /** After that, so long for the last acknowledgements. */
  drainGraceMs: number
  /** Where devices are sent; empty: to where they came from. */
  drainUrl: string
  reason: GoawayReason
}

/** At the pace of the settings. A restart sends devices to the worker beside it, never to another address. */
export function drainPace(settings: Omit<DrainPace, 'reason'>, reason: GoawayReason): DrainPace {
  const { drainMs, drainPerSecondMax, drainJitterMs, drainGraceMs, drainUrl } = settings
  return {
    ...{ drainMs, drainPerSecondMax, drainJitterMs, drainGraceMs, reason },
    drainUrl: reason === 'upgrade' ? '' : drainUrl,
  }
}

/** How long a worker may take to leave, in milliseconds. */
export function drainMsMax({ drainMs, drainJitterMs, drainGraceMs }: Omit<DrainPace, 'reason'>): number {
  // The grace counts twice: for the acknowledgements of devices, and for those of the core.
  return drainMs + drainJitterMs + 2 * drainGraceMs
}

export async function drain(
  parts: { clock: Clock; turns: Turns; registry: Registry; effects: Effects },
  pace: DrainPace,
): Promise<void> {
  const { clock, turns, registry, effects } = parts
  const { reason, drainJitterMs: jitterMs, drainUrl: url } = pace
  const goaway = { type: 'GOAWAY', reason, afterMs: 0, jitterMs, url } as const
  const asked = new WeakSet<Session>()
  const ask = (sessions: readonly Session[]) =>
    turns.run('goaway', () => {
      for (const session of sessions) {
        asked.add(session)
        if (session.state !== 'closed') effects.send(session, goaway)
      }
    })
  const sessions = registry.all()
  const perSlice = Math.max(
    1,
    Math.ceil((pace.drainPerSecondMax * SLICE_MS) / 1000),
    Math.ceil((sessions.length * SLICE_MS) / pace.drainMs),
  )
  for (let from = 0; from < sessions.length; from += perSlice) {
    if (from > 0) await sleep(clock, SLICE_MS)
    ask(sessions.slice(from, from + perSlice))
  }
  const jitterEndsMs = clock.now() + jitterMs
  const graceEndsMs = jitterEndsMs + pace.drainGraceMs
  const isOwed = () => registry.all().some((session) => session.unacknowledged > 0)
  // Until everybody has left, or had the time to and owes us no acknowledgement, or the grace is over as well.
  while (registry.size > 0 && clock.now() < graceEndsMs && (clock.now() < jitterEndsMs || isOwed())) {
    // Those whose HELLO was on its way when the drain began.
    ask(registry.all().filter((session) => !asked.has(session)))
    await sleep(clock, SLICE_MS)
  }
  for (const session of registry.all()) turns.run('drain', () => effects.close(session, 'going_away'))
}
