/**
 * Runs one fault: starts a system under load, injects the fault at random moments, waits until every message has ended,
 * gathers the evidence, and asks the oracle for its verdict.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cleanup } from '../../bench/cleanup.js'
import { systemFolder } from '../../bench/system/local-system.js'
import { mergeOverrides, type Overrides } from '../../bench/system/settings.js'
import { between, type Random, seeded } from '../sim/random.js'
import { awaitNothingPending, readAfterwards } from './afterwards.js'
import type { Fault } from './fault.js'
import { readLog } from './log.js'
import { judge } from './oracle.js'
import {
  type AppRecord,
  type AttemptRecord,
  type Evidence,
  logFiles,
  type PresenceRecord,
  type Window,
  type WireRecord,
} from './records.js'
import { type Result, resultOf, sumOf } from './result.js'
import { Rig } from './rig.js'

export interface RunOptions {
  injections: number
  seed: number
  devices: number
  pushesPerSecond: number
  /** The time-outs of the system are the defaults divided by this number, so that their proportions stay. */
  haste: number
  /** The folder for the logs of a run with violations; null keeps none. */
  keep: string | null
  cleanup: Cleanup
  say(text: string): void
}

/** The pause before each injection. */
const PAUSE_MS = [1_500, 5_000] as const
const RECOVERY_MS_MAX = 90_000
const PENDING_MS_MAX = 60_000
/** A message that a fault affected may be redelivered up to this many ack waits later. */
const REDELIVERY_ACK_WAITS = 1.2

/** The default time-outs that decide how long a redelivery takes, divided by `haste`. */
function shortenedTimeouts(haste: number): { settings: Overrides; ackWaitMs: number } {
  const ms = (value: number) => Math.ceil(value / haste)
  const ackWaitMs = ms(30_000)
  return {
    ackWaitMs,
    settings: {
      core: {
        ...{ ackWaitMs, silentMs: ms(5_000), leaseMs: ms(3_000) },
        ...{ controlTimeoutMs: ms(2_000), retryMs: ms(1_000), expiryBucketMs: ms(10_000) },
      },
      ingress: { ackWaitMs, retryMs: ms(1_000) },
      transport: {
        drainMs: ms(10_000),
        drainJitterMs: ms(1_000),
        drainGraceMs: ms(2_000),
        settleRepeatMs: ms(1_000),
        auditMs: ms(60_000),
      },
    },
  }
}

export async function runFault(fault: Fault, options: RunOptions): Promise<Result> {
  const { injections, seed, devices, pushesPerSecond, cleanup, say } = options
  const startedMs = performance.now()
  const random = seeded(seed)
  const folder = mkdtempSync(join(tmpdir(), `borealis-faults-${fault.name}-`))
  const runCleanup = new Cleanup()
  cleanup.defer(() => runCleanup.run((error) => say(String(error))))
  runCleanup.defer(() => rmSync(folder, { recursive: true, force: true }))
  const { settings, ackWaitMs } = shortenedTimeouts(options.haste)
  const violations: string[] = []
  try {
    fault.setUp?.(systemFolder(folder), runCleanup)
    const rig = await Rig.start({
      ...{ folder, devices, pushesPerSecond, seed, cleanup: runCleanup, say },
      links: fault.links ?? [],
      cores: fault.cores ?? 1,
      settings: mergeOverrides(settings, fault.settings ?? {}),
    })
    say(`${devices} devices are connected; the load of ${pushesPerSecond} pushes a second starts`)
    await rig.driver.call('startLoad', undefined)
    const outcomes: InjectionOutcome[] = []
    for (let i = 1; i <= injections; i++) {
      await fault.prepare?.(rig)
      await sleep(between(random, PAUSE_MS))
      const outcome = await injectOnce(rig, fault, random)
      const { description, recoveredMs } = outcome
      say(`${i} of ${injections}: ${description}: ${recoveredMs === null ? 'NOT RECOVERED' : `${recoveredMs} ms`}`)
      if (recoveredMs === null)
        violations.push(
          `recovery: the system did not recover from injection ${i} (${description}) in ${RECOVERY_MS_MAX / 1000} s`,
        )
      outcomes.push(outcome)
    }
    say('the last fault is healed; waiting for the end of every message')
    await rig.driver.call('stopLoad', undefined)
    await rig.driver.call('restartDevices', undefined)
    const pending = await awaitNothingPending(rig, PENDING_MS_MAX)
    if (pending > 0) violations.push(`conservation: ${pending} targets or stored records are still pending`)
    const quietMs = ackWaitMs * REDELIVERY_ACK_WAITS
    await sleep(quietMs)
    // A device learns at its next connect of messages that were dropped meanwhile.
    await rig.driver.call('restartDevices', undefined)
    const windows = outcomes.map(({ window }) => ({ ...window, untilMs: window.untilMs + quietMs }))
    const breaks = fault.keepsConnections ? [] : windows
    const evidence = { ...(await gatherEvidence(rig, windows, breaks)), mayForget: fault.mayForget === true }
    if (outcomes.length > 0 && outcomes.every(({ hadEffect }) => hadEffect === false))
      violations.push('effect: no injection had an effect')
    const { expectedAnswer } = fault
    const isExpected = (r: AttemptRecord) => r.type === 'answered' && expectedAnswer?.test(r.detail ?? '')
    if (expectedAnswer && !evidence.attempts.some(isExpected))
      violations.push(`effect: no answer matches ${expectedAnswer}`)
    const verdict = judge(evidence)
    violations.push(...verdict.violations)
    if (violations.length > 0 && options.keep !== null) keepLogs(rig, join(options.keep, `${fault.name}-${seed}`), say)
    return resultOf({
      ...{ fault: fault.name, seed, verdict, violations },
      recoveryMs: outcomes.map(({ recoveredMs }) => recoveredMs),
      afterHealingMs: outcomes.map(({ afterHealingMs }) => afterHealingMs),
      ends: sumOf(evidence.afterwards.totals.values()),
      seconds: Math.round((performance.now() - startedMs) / 1000),
    })
  } finally {
    await runCleanup.run((error) => say(String(error)))
  }
}

interface InjectionOutcome {
  description: string
  window: Window
  /** Time from the injection to the recovery; null if the system did not recover in time. */
  recoveredMs: number | null
  /** The same time, counted from heal(). */
  afterHealingMs: number | null
  /** Null if the fault has no way to tell. */
  hadEffect: boolean | null
}

async function injectOnce(rig: Rig, fault: Fault, random: Random): Promise<InjectionOutcome> {
  const fromMs = Date.now()
  const injection = await fault.inject(rig, random)
  const { durationMs } = injection
  const recovering = rig.driver.call('measureRecovery', { fromMs, timeoutMs: RECOVERY_MS_MAX + durationMs })
  let healedMs = fromMs
  let healing: Promise<unknown> = Promise.resolve()
  let hadEffect: boolean | null = null
  if (durationMs > 0) {
    await sleep(durationMs)
    if (injection.hadEffect) hadEffect = await injection.hadEffect()
    await injection.heal()
    healedMs = Date.now()
    // The first call may have seen pushes that passed while the fault lasted, so the time after it is measured anew.
    healing = rig.driver.call('measureRecovery', { fromMs: healedMs, timeoutMs: RECOVERY_MS_MAX })
  }
  const { allMs: recoveredMs } = await recovering
  const after = (await healing) as { allMs: number | null } | undefined
  const afterHealingMs = after ? after.allMs : recoveredMs
  const untilMs = Math.max(Date.now(), healedMs)
  const lasting = durationMs > 0 ? ` for ${(durationMs / 1000).toFixed(1)} s` : ''
  const effect = hadEffect === false ? ' (without effect)' : ''
  const description = injection.description + lasting + effect
  return { description, window: { fromMs, untilMs }, recoveredMs, afterHealingMs, hadEffect }
}

async function gatherEvidence(rig: Rig, windows: Window[], breaks: Window[]): Promise<Omit<Evidence, 'mayForget'>> {
  const at = (name: keyof typeof logFiles) => join(rig.driverFolder, logFiles[name])
  const attempts = readLog<AttemptRecord>(at('attempts'))
  const app = readLog<AppRecord>(at('app'))
  const afterwards = await readAfterwards(rig, attempts, app)
  const [wire, presence] = [readLog<WireRecord>(at('wire')), readLog<PresenceRecord>(at('presence'))]
  return { attempts, app, wire, presence, members: [...rig.members], windows, breaks, afterwards }
}

function keepLogs(rig: Rig, folder: string, say: (text: string) => void): void {
  mkdirSync(folder, { recursive: true })
  for (const file of Object.values(logFiles)) cpSync(join(rig.driverFolder, file), join(folder, file))
  say(`the logs are in ${folder}`)
}
