/**
 * Drains a worker that leaves. It accepts no connections any more and sends GOAWAY to its devices at a limited rate.
 * Each device leaves within the jitter window and connects to another worker. After a grace period for the last
 * acknowledgements, the remaining sockets are closed. No tombstones are written: the worker releases its lease
 * afterwards, which ends all its sessions.
 */
import type { GoawayReason } from '../../../protocol/frame-types.js'
import { type Clock, sleep } from '../../clock.js'
import type { Effects } from '../delivery/effects.js'
import type { Registry } from '../session/registry.js'
import type { Session } from '../session/session.js'
import type { Turns } from '../turns.js'

const SLICE_MS = 100
/**
 * This many devices may be away at a time in any case; with a limit of 0 the first one would never be asked to leave.
 */
const AWAY_MIN = 100
/**
 * Beside AWAY_MIN as many devices may be away as return within this time and the jitter, at the present rate. More of
 * them would only wait for busy workers.
 */
const AWAY_MS = 500

export interface DrainPace {
  /** All GOAWAYs are sent within this time, whatever the rate. */
  drainMs: number
  /** GOAWAYs a second. */
  drainPerSecondMax: number
  /** Each device leaves within this time after its GOAWAY. */
  drainJitterMs: number
  /** The grace period after that, for the last acknowledgements. */
  drainGraceMs: number
  /** The URL that devices are sent to; empty: the URL that they came from. */
  drainUrl: string
  reason: GoawayReason
  /** Devices are asked to leave only as fast as those that left return to this instance. */
  waitsForReturns: boolean
}

export type DrainSettings = Omit<DrainPace, 'reason' | 'waitsForReturns'> & { restartMs: number }

/**
 * The pace for a reason. In a restart ('upgrade') devices return to another worker of this instance, never to
 * drainUrl.
 */
export function drainPace(settings: DrainSettings, reason: GoawayReason): DrainPace {
  const { drainMs, restartMs, drainPerSecondMax, drainJitterMs, drainGraceMs, drainUrl } = settings
  const isRestart = reason === 'upgrade'
  return {
    drainMs: isRestart ? restartMs : drainMs,
    drainPerSecondMax,
    drainJitterMs,
    drainGraceMs,
    drainUrl: isRestart ? '' : drainUrl,
    reason,
    waitsForReturns: isRestart,
  }
}

/** The longest time that a worker may take to leave, in milliseconds. */
export function drainMsMax(pace: Pick<DrainPace, 'drainMs' | 'drainJitterMs' | 'drainGraceMs'>): number {
  // The grace counts twice: for the acknowledgements of devices, and for the confirmations of the core.
  return pace.drainMs + pace.drainJitterMs + 2 * pace.drainGraceMs
}

/**
 * The number of GOAWAYs that are due in a slice of a drain. It is never lower than drainMs demands, because devices
 * may not return at all: a load balancer can send them to another instance.
 * @param away devices that were asked to leave and have not returned, as far as known.
 * @param backPerSecond devices that returned within the last second.
 */
export function dueInSlice(pace: DrainPace, sessions: number, away: number, backPerSecond: number): number {
  const least = Math.max(1, Math.ceil((sessions * SLICE_MS) / pace.drainMs))
  const most = Math.max(least, Math.ceil((pace.drainPerSecondMax * SLICE_MS) / 1000))
  if (!pace.waitsForReturns) return most
  const awayMax = AWAY_MIN + ((AWAY_MS + pace.drainJitterMs) / 1000) * backPerSecond
  return Math.max(least, Math.min(most, Math.ceil(awayMax - away)))
}

/** Counts the devices that have returned since the drain began, from the number of devices at the other workers. */
class Returns {
  private atStart: number | null = null
  private readonly lastSecond: number[] = []

  /** Called once in each slice. @param devicesElsewhere null while the number is unknown. */
  count(devicesElsewhere: number | null): { back: number; perSecond: number } {
    this.atStart ??= devicesElsewhere
    const back = Math.max(0, (devicesElsewhere ?? 0) - (this.atStart ?? 0))
    this.lastSecond.push(back)
    const [first = 0] = this.lastSecond
    if (this.lastSecond.length > 1000 / SLICE_MS) this.lastSecond.shift()
    return { back, perSecond: back - first }
  }
}

export interface DrainParts {
  clock: Clock
  turns: Turns
  registry: Registry
  effects: Effects
  /** The number of devices at the other workers of this instance; null while it is unknown. */
  devicesElsewhere: () => number | null
}

export async function drain(parts: DrainParts, pace: DrainPace): Promise<void> {
  const { clock, turns, registry, effects, devicesElsewhere } = parts
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
    const { back, perSecond } = returns.count(devicesElsewhere())
    const due = dueInSlice(pace, sessions.length, from - back, perSecond)
    ask(sessions.slice(from, from + due))
    from += due
  }
  const jitterEndsMs = clock.steadyMs() + jitterMs
  const graceEndsMs = jitterEndsMs + pace.drainGraceMs
  const isAcknowledgementDue = () => registry.all().some((session) => session.unacknowledged > 0)
  // During the jitter devices leave by themselves; during the grace only missing acknowledgements are waited for.
  while (
    registry.size > 0 &&
    clock.steadyMs() < graceEndsMs &&
    (clock.steadyMs() < jitterEndsMs || isAcknowledgementDue())
  ) {
    // Sessions whose HELLO was under way when the drain began.
    ask(registry.all().filter((session) => !asked.has(session)))
    await sleep(clock, SLICE_MS)
  }
  for (const session of registry.all()) turns.run('drain', () => effects.close(session, 'going_away'))
}
