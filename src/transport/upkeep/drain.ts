/**
 * How a worker leaves: no new connections; GOAWAY to its devices at a set rate; each leaves within the jitter window and
 * connects to whoever listens; a moment for the last acknowledgements; then the sockets that are left are closed. No
 * tombstones: the lease that is released after it speaks for all.
 */
import type { GoawayReason } from '../../../protocol/frame-types.js'
import { type Clock, sleep } from '../../clock.js'
import type { Effects } from '../delivery/effects.js'
import type { Registry } from '../session/registry.js'
import type { Session } from '../session/session.js'
import type { Turns } from '../turns.js'

const SLICE_MS = 100
/** So many devices may be away in any case: else nobody would ever leave. */
const AWAY_MIN = 100
/**
 * And as many as were back lately in this share of a second and in the jitter that they were asked to take: what is more of their way is a
 * wait for somebody busy.
 */
const AWAY_MS = 500

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
  /** Asks devices only as fast as those that were asked are back in this instance. */
  waitsForReturns: boolean
}

export type DrainSettings = Omit<DrainPace, 'reason' | 'waitsForReturns'> & { restartMs: number }

/** At the pace of the settings. A restart sends devices to the worker beside it, never to another address. */
export function drainPace(settings: DrainSettings, reason: GoawayReason): DrainPace {
  const { drainMs, restartMs, drainPerSecondMax, drainJitterMs, drainGraceMs, drainUrl } = settings
  const isRestart = reason === 'upgrade'
  return {
    ...{ drainPerSecondMax, drainJitterMs, drainGraceMs, reason },
    drainMs: isRestart ? restartMs : drainMs,
    drainUrl: isRestart ? '' : drainUrl,
    waitsForReturns: isRestart,
  }
}

/** How long a worker may take to leave, in milliseconds. */
export function drainMsMax(pace: Pick<DrainPace, 'drainMs' | 'drainJitterMs' | 'drainGraceMs'>): number {
  // The grace counts twice: for the acknowledgements of devices, and for those of the core.
  return pace.drainMs + pace.drainJitterMs + 2 * pace.drainGraceMs
}

/**
 * How many GOAWAYs are due in a slice of a drain. Devices may have gone elsewhere for good, to another instance behind a
 * load balancer: so never fewer than drainMs demands.
 * @param away asked, and not known to be back
 * @param backPerSecond lately
 */
export function dueInSlice(pace: DrainPace, sessions: number, away: number, backPerSecond: number): number {
  const least = Math.max(1, Math.ceil((sessions * SLICE_MS) / pace.drainMs))
  const most = Math.max(least, Math.ceil((pace.drainPerSecondMax * SLICE_MS) / 1000))
  if (!pace.waitsForReturns) return most
  const awayMax = AWAY_MIN + ((AWAY_MS + pace.drainJitterMs) / 1000) * backPerSecond
  return Math.max(least, Math.min(most, Math.ceil(awayMax - away)))
}

/** How many devices are back since the drain began, and how many a second. */
class Returns {
  private before: number | null = null
  private readonly lately: number[] = []

  /** To be called once in each slice. `elsewhere`: devices that the other workers have; null: not known yet. */
  look(elsewhere: number | null): { back: number; perSecond: number } {
    this.before ??= elsewhere
    const back = Math.max(0, (elsewhere ?? 0) - (this.before ?? 0))
    this.lately.push(back)
    const [first = 0] = this.lately
    if (this.lately.length > 1000 / SLICE_MS) this.lately.shift()
    return { back, perSecond: back - first }
  }
}

export interface DrainParts {
  clock: Clock
  turns: Turns
  registry: Registry
  effects: Effects
  /** How many devices the other workers of this instance have; null: not known yet. */
  elsewhere: () => number | null
}

export async function drain(parts: DrainParts, pace: DrainPace): Promise<void> {
  const { clock, turns, registry, effects, elsewhere } = parts
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
  const returns = new Returns()
  for (let from = 0; from < sessions.length; ) {
    if (from > 0) await sleep(clock, SLICE_MS)
    const { back, perSecond } = returns.look(elsewhere())
    const due = dueInSlice(pace, sessions.length, from - back, perSecond)
    ask(sessions.slice(from, from + due))
    from += due
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
