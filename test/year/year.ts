/**
 * A year in a day: an installation with its fleet lives through a year on the virtual clock, with all that is certain to
 * come (calendar.ts), and is judged (checks.ts). The cores run whole, HTTP API included, the workers and devices run their
 * real code, and tokens, keys and records have the lives that they are shipped with.
 *
 * What is compressed. Of each day, the minutes around nine o'clock run; for the rest of the day every machine is suspended:
 * the clocks go on, and what became due runs in the morning, late and at once. This hides no fault that a year brings: time
 * that passed shows in the life of tokens, records and messages, not in idle ticks. It is harder than life where it differs:
 * every lease, keepalive and sweep is late each morning, in all processes at once. It hides what needs the ticks themselves,
 * such as a counter that overflows after millions of keepalives.
 *
 * The seed decides the plan: who is away, what is sent, what breaks. Ids and keys are the product's own random ones, so two
 * runs of a seed differ in them.
 */

import { eventsStream } from '../../protocol/subjects.js'
import { type Act, calendar } from './calendar.js'
import { type Check, Findings } from './checks.js'
import { judge } from './judge.js'
import { WorkCount } from './real-work.js'
import { messagesADay, SPLIT } from './settings.js'
import { Traffic, topicOf } from './traffic.js'
import { DAY_MS, ENROLMENT_DAYS, ENROLMENTS, PROJECTS, YearWorld } from './world.js'

export interface YearOptions {
  devices: number
  days: number
  seed: number
  /** In place of those of calendar.ts. */
  acts?: readonly Act[]
  isTraced?: boolean
  /** Called when a day is over; the first days, before the year, are negative. */
  onDay?: (day: number) => void
  /** Called with each thing that is wrong, as it is found. */
  onWrong?: (text: string) => void
  /** Called at the end with what happened, where it is traced. */
  onStory?: (lines: readonly string[]) => void
}

export interface YearResult {
  ok: boolean
  /** Targets of accepted messages without an end, or with one that nothing explains. */
  lost: number
  checks: Check[]
  days: number
  devices: number
  seed: number
  accepted: number
  judged: number
  delivered: number
  renewals: number
  rotations: number
  /** Requests that were refused because of an act that was meant. */
  refusedAsMeant: number
  acts: number
}

/** Machines wake up, and processes and devices find each other again. */
const WAKE_MS = 15_000
const BUSY_MS = 15_000
const REST_MS = 15_000
/** A day's acts are over by then. */
const DAY_MS_MAX = 3_600_000
/** Less than `store.eventsAgeMs`. */
const HISTORY_DAYS_MAX = 60
/** After the year, so many days until everything has ended that was sent in it; every third of them runs. */
const LAST_DAYS_MAX = 36
const LAST_DAYS_STEP = 3

export async function runYear(options: YearOptions): Promise<YearResult> {
  const work = new WorkCount()
  const stopWatching = work.watchThreads()
  const findings = new Findings(options.onWrong)
  const world = new YearWorld(options.devices, options.seed, findings, work, options.isTraced === true)
  const onThrown = (error: unknown) => {
    const text = error instanceof Error ? (error.stack ?? '') : String(error)
    world.wrong('internal', text)
  }
  process.on('unhandledRejection', onThrown)
  process.on('uncaughtException', onThrown)
  try {
    return await new Year(world, options).run()
  } finally {
    process.off('unhandledRejection', onThrown)
    process.off('uncaughtException', onThrown)
    stopWatching()
  }
}

class Year {
  private readonly traffic: Traffic
  private readonly acts: readonly Act[]
  private acted = 0
  /** Work of this day. */
  private readonly underWay = new Set<string>()

  constructor(
    private readonly world: YearWorld,
    private readonly options: YearOptions,
  ) {
    this.traffic = new Traffic(world)
    this.acts = options.acts ?? calendar(options.days)
  }

  async run(): Promise<YearResult> {
    const { world, options } = this
    await world.begin()
    await this.gather()
    for (let day = 0; day < options.days; day++) await this.live(day)
    if (options.acts === undefined) this.lookAtHistory()
    await this.end()
    await judge(world, this.acts, this.acted)
    options.onStory?.(world.trace.lines)
    return this.result()
  }

  /** The fleet enrols in the year before. Some of the first devices sleep until their tokens have ended. */
  private async gather(): Promise<void> {
    const { world, options } = this
    for (let month = 0; month < ENROLMENTS; month++) {
      const day = (month - ENROLMENTS) * ENROLMENT_DAYS
      world.sleepUntil(day, WAKE_MS)
      await world.clock.advance(WAKE_MS)
      await world.enrolMonth(month)
      options.onDay?.(day)
      if (month > 0) continue
      const sleepers = world.devices.filter(({ index }) => index % 10 === 0)
      for (const device of sleepers) {
        device.awayUntilDay = Math.min(60, Math.floor(options.days / 2))
        await world.clock.advanceUntil(device.stop())
      }
    }
  }

  private async live(day: number): Promise<void> {
    const { world, options, traffic } = this
    const { clock } = world
    world.sleepUntil(day, WAKE_MS)
    await clock.advance(WAKE_MS)
    const today = this.acts.filter((act) => act.day === day)
    void this.watched('messages', traffic.ordinary(messagesADay(options.devices), BUSY_MS))
    void this.watched('devices', traffic.devices(day, BUSY_MS))
    void this.watched('groups', this.groups(day))
    if (today.length > 0) void this.watched(today.map(({ name }) => name).join(', '), this.perform(today))
    await clock.until(() => this.underWay.size === 0, DAY_MS_MAX)
    for (const name of this.underWay) world.wrong('internal', `the work of a day did not end: ${name}`)
    this.underWay.clear()
    await clock.advance(REST_MS)
    await world.settle()
    world.ledger.overdue()
    options.onDay?.(day)
  }

  private async watched(name: string, work: Promise<void>): Promise<void> {
    this.underWay.add(name)
    try {
      await work
    } catch (error) {
      this.world.wrong('internal', `${name}: ${error instanceof Error ? error.stack : String(error)}`)
    } finally {
      this.underWay.delete(name)
    }
  }

  /** One after the other. */
  private async perform(acts: readonly Act[]): Promise<void> {
    for (const { name, run } of acts) {
      this.world.trace.note('calendar', name)
      const disturbance = { fromMs: this.world.clock.now(), untilMs: Number.POSITIVE_INFINITY }
      this.world.disturbances.push(disturbance)
      await run(this.world, this.traffic)
      disturbance.untilMs = this.world.clock.now()
      this.acted++
    }
  }

  private async groups(day: number): Promise<void> {
    const project = PROJECTS[day % PROJECTS.length] ?? 'north'
    if (this.world.suspended.has(project)) return
    if (day % 7 === 3) await this.traffic.toTopic(project, topicOf(day))
  }

  /** EVENTS is so small that its history has given way long before its age. */
  private lookAtHistory(): void {
    const { clock, broker } = this.world
    for (let i = 0; i < SPLIT; i++) {
      const events = broker.server.stream(eventsStream(i))
      const oldest = events.next('>', 1)
      const days = oldest ? (clock.now() - oldest.storedAtMs) / DAY_MS : 0
      if (days > Math.min(this.options.days - 1, HISTORY_DAYS_MAX)) {
        this.world.wrong(
          'room',
          `${events.name} was never short of room: its oldest record is ${days.toFixed(1)} days old`,
        )
      }
    }
  }

  /** Everybody comes back, and days pass until nothing is owed any more. */
  private async end(): Promise<void> {
    const { world, options } = this
    const { clock, devices } = world
    for (let day = options.days; day < options.days + LAST_DAYS_MAX; day += LAST_DAYS_STEP) {
      world.sleepUntil(day, WAKE_MS)
      await clock.advance(WAKE_MS)
      for (const device of devices) if (!device.isUp && !world.goodbyes.has(device)) device.start()
      await clock.advance(BUSY_MS + REST_MS)
      world.ledger.overdue()
      options.onDay?.(day)
      if (world.ledger.isEmpty && world.isSwept) break
    }
    world.ledger.conclude()
  }

  private result(): YearResult {
    const { world, options, traffic } = this
    const { findings, ledger } = world
    const checks = findings.all()
    let delivered = 0
    for (const ended of ledger.ended.values()) delivered += ended.get('delivered') ?? 0
    return {
      ok: checks.every(({ ok }) => ok),
      lost: findings.count('lost'),
      checks,
      days: options.days,
      devices: options.devices,
      seed: options.seed,
      accepted: ledger.accepted,
      judged: ledger.judged,
      delivered,
      renewals: world.devices.reduce((sum, { renewals }) => sum + renewals, 0),
      rotations: world.rotations,
      refusedAsMeant: traffic.refusedAsMeant,
      acts: this.acted,
    }
  }
}
