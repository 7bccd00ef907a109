/** One run of one fault: a system under load, injections at random moments, then healing, quiet, and the verdict. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cleanup } from '../../bench/cleanup.js'
import { systemFolder } from '../../bench/system/local-system.js'
import { mergeOverrides, type Overrides } from '../../bench/system/settings.js'
import { between, type Random, seeded } from '../sim/random.js'
import { lookAfterwards, nothingPending } from './afterwards.js'
import type { Fault } from './fault.js'
import { readLog } from './log.js'
import { judge } from './oracle.js'
import { type AppRecord, type AttemptRecord, type Evidence, logFiles, type Window, type WireRecord } from './records.js'
import { type Result, resultOf, sumOf } from './result.js'
import { Rig } from './rig.js'

export interface RunOptions {
  injections: number
  seed: number
  devices: number
  pushesPerSecond: number
  /** Waits of the system are the defaults divided by this: shorter, in the same proportions. */
  haste: number
  /** Where a run that found something leaves its logs; null: nowhere. */
  keep: string | null
  cleanup: Cleanup
  say(text: string): void
}

const CALM_MS = [1_500, 5_000] as const
const RECOVERY_MS_MAX = 90_000
const PENDING_MS_MAX = 60_000
/** A message that a fault touched may be delivered again once more after this many redelivery waits. */
const REDELIVERIES = 1.2

/** The waits that decide how long a redelivery takes, as the defaults have them. */
function hasty(by: number): { settings: Overrides; ackWaitMs: number } {
  const ms = (value: number) => Math.ceil(value / by)
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
  const begin = performance.now()
  const random = seeded(seed)
  const folder = mkdtempSync(join(tmpdir(), `borealis-faults-${fault.name}-`))
  const mine = new Cleanup()
  cleanup.defer(() => mine.run((error) => say(String(error))))
  mine.defer(() => rmSync(folder, { recursive: true, force: true }))
  const { settings, ackWaitMs } = hasty(options.haste)
  const trouble: string[] = []
  try {
    fault.furnish?.(systemFolder(folder), mine)
    const rig = await Rig.start({
      ...{ folder, devices, pushesPerSecond, seed, cleanup: mine, say },
      links: fault.links ?? [],
      cores: fault.cores ?? 1,
      settings: mergeOverrides(settings, fault.settings ?? {}),
    })
    say(`${devices} devices are there, ${pushesPerSecond} pushes a second begin`)
    await rig.driver.call('load', undefined)
    const moments: Now[] = []
    for (let i = 1; i <= injections; i++) {
      await fault.prepare?.(rig)
      await sleep(between(random, CALM_MS))
      const moment = await injectOnce(rig, fault, random)
      const { recoveredMs } = moment
      say(`${i} of ${injections}: ${moment.told}: ${recoveredMs === null ? 'NOT RECOVERED' : `${recoveredMs} ms`}`)
      if (recoveredMs === null) trouble.push(`recovery: injection ${i} (${moment.told}) in ${RECOVERY_MS_MAX / 1000} s`)
      moments.push(moment)
    }
    say('healed: waiting for the end of every message')
    await rig.driver.call('quiet', undefined)
    await rig.driver.call('restartDevices', undefined)
    const pending = await nothingPending(rig, PENDING_MS_MAX)
    if (pending > 0) trouble.push(`conservation: ${pending} targets or stored records are still pending`)
    await sleep(ackWaitMs * REDELIVERIES)
    // What was dropped meanwhile is told at connect.
    await rig.driver.call('restartDevices', undefined)
    const quietMs = ackWaitMs * REDELIVERIES
    const windows = moments.map(({ window }) => ({ ...window, untilMs: window.untilMs + quietMs }))
    const evidence = await gather(rig, windows)
    if (moments.length > 0 && moments.every(({ hurt }) => hurt === false))
      trouble.push('harmless: no injection did anything')
    const { expects } = fault
    const isExpected = (r: AttemptRecord) => r.what === 'answered' && expects?.test(r.detail ?? '')
    if (expects && !evidence.attempts.some(isExpected)) trouble.push(`harmless: nothing was answered ${expects}`)
    const verdict = judge(evidence)
    const violations = [...trouble, ...verdict.violations]
    if (violations.length > 0 && options.keep !== null) keepLogs(rig, join(options.keep, `${fault.name}-${seed}`), say)
    return resultOf({
      ...{ fault: fault.name, seed, verdict, violations },
      recoveryMs: moments.map(({ recoveredMs }) => recoveredMs),
      afterHealingMs: moments.map(({ afterHealingMs }) => afterHealingMs),
      ends: sumOf(evidence.afterwards.totals.values()),
      seconds: Math.round((performance.now() - begin) / 1000),
    })
  } finally {
    await mine.run((error) => say(String(error)))
  }
}

interface Now {
  told: string
  window: Window
  recoveredMs: number | null
  afterHealingMs: number | null
  /** Null: nobody looked. */
  hurt: boolean | null
}

async function injectOnce(rig: Rig, fault: Fault, random: Random): Promise<Now> {
  const fromMs = Date.now()
  const { told, lastsMs, heal, hurt } = await fault.inject(rig, random)
  const recovering = rig.driver.call('recovered', { fromMs, timeoutMs: RECOVERY_MS_MAX + lastsMs })
  let healedMs = fromMs
  let healing: Promise<unknown> = Promise.resolve()
  let wasHurt: boolean | null = null
  if (lastsMs > 0) {
    await sleep(lastsMs)
    if (hurt) wasHurt = await hurt()
    await heal()
    healedMs = Date.now()
    // What got through while it lasted says nothing about the time after it.
    healing = rig.driver.call('recovered', { fromMs: healedMs, timeoutMs: RECOVERY_MS_MAX })
  }
  const { allMs: recoveredMs } = await recovering
  const after = (await healing) as { allMs: number | null } | undefined
  const afterHealingMs = after ? after.allMs : recoveredMs
  const untilMs = Math.max(Date.now(), healedMs)
  const lasting = lastsMs > 0 ? ` for ${(lastsMs / 1000).toFixed(1)} s` : ''
  const harmless = wasHurt === false ? ' (without effect)' : ''
  return { told: told + lasting + harmless, window: { fromMs, untilMs }, recoveredMs, afterHealingMs, hurt: wasHurt }
}

async function gather(rig: Rig, windows: Window[]): Promise<Evidence> {
  const at = (name: keyof typeof logFiles) => join(rig.driverFolder, logFiles[name])
  const attempts = readLog<AttemptRecord>(at('attempts'))
  const app = readLog<AppRecord>(at('app'))
  const afterwards = await lookAfterwards(rig, attempts, app)
  return { attempts, app, wire: readLog<WireRecord>(at('wire')), members: [...rig.members], windows, afterwards }
}

function keepLogs(rig: Rig, folder: string, say: (text: string) => void): void {
  mkdirSync(folder, { recursive: true })
  for (const file of Object.values(logFiles)) cpSync(join(rig.driverFolder, file), join(folder, file))
  say(`the logs are in ${folder}`)
}
