/**
 * The counters: a fold over EVENTS. A checkpoint holds the counts and the sequence up to which they count in one record,
 * so a crash at any point counts nothing twice.
 */
import { timeOfId } from '../../../../protocol/message-id.js'
import type { Clock } from '../../../clock.js'
import { evictOldest, mapAtOnce } from '../../../collections.js'
import type { Consumption, Log, LogRecord } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import {
  COUNTED,
  type CounterRow,
  type CounterStore,
  emptyCounts,
  OLDER_DAYS,
  type ProjectCounters,
  type RecentMessages,
} from '../../../store/counters.js'
import { decodeFolded, FINAL_KINDS, type FoldedEvent, isMoved } from '../../../store/events.js'
import type { ReadCounters } from '../../domain/commands.js'
import { READS_AT_ONCE } from '../../domain/query-budget.js'

export interface StatsOptions {
  clock: Clock
  log: Logger
  /** EVENTS_<index>. */
  events: Log
  index: number
  counters: CounterStore
  checkpointMs: number
  daysMax: number
  /** Number of newest messages kept for each project. */
  recentMax: number
}

/** Most rows of one project, because a checkpoint has to fit into a NATS message. Beyond it, the oldest days are added up. */
const ROWS_MAX = 8_000

interface ProjectFold {
  rows: Map<string, CounterRow>
  recent: RecentMessages
  /** Counted up to here. After a crash it may be ahead of the position of the fold. */
  sequence: number
  revision: number
  dirty: boolean
}

/** The fold over one EVENTS stream, from one start to one stop. */
export class StatsFold {
  private projects = new Map<string, ProjectFold>()
  private position = 0
  private written = { value: 0, revision: 0 }
  private tail: Consumption | null = null
  private cancel: (() => void) | null = null
  private work: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly options: StatsOptions) {}

  async start(): Promise<void> {
    await this.load()
    this.schedule()
  }

  /** The sequence up to which events are counted. */
  get at(): number {
    return this.position
  }

  /** The sequence up to which events are counted in the stored checkpoint, for good. */
  get storedAt(): number {
    return this.written.value
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.work
    // Without a tail the last checkpoint failed, and the counts in memory must not be written.
    if (!this.tail) return
    await this.tail.stop()
    // After a failure, the next fold counts again from the last checkpoint.
    await this.checkpoint().catch((error) => this.options.log.debug({ error }, 'no last checkpoint of the counters'))
  }

  private async load(): Promise<void> {
    const { counters, index, events, log } = this.options
    // In this order: the checkpoints of projects are never behind the position, and skip events that they include.
    this.written = await counters.position(index)
    this.position = this.written.value
    this.projects = new Map()
    for (const [project, { value, revision }] of await counters.projects(index)) {
      const rows = new Map(value.rows.map((row) => [rowKey(row.application, row.day), row]))
      const { recent, sequence } = value
      this.projects.set(project, { rows, recent, sequence, revision, dirty: false })
    }
    const { firstSequence } = await events.state()
    if (firstSequence > this.position + 1) {
      log.error(
        { index, from: this.position + 1, to: firstSequence - 1 },
        'events were removed before they were counted',
      )
    }
    this.tail = await events.tail({ fromSequence: this.position + 1 }, (record) => this.count(record))
  }

  private schedule(): void {
    const { clock, checkpointMs } = this.options
    this.cancel = clock.after(checkpointMs, () => {
      this.work = this.turn()
        .catch((error) => this.options.log.error({ error }, 'the counters could not be updated'))
        .then(() => {
          if (!this.stopped) this.schedule()
        })
    })
  }

  private async turn(): Promise<void> {
    try {
      if (this.tail) await this.checkpoint()
      else await this.load()
    } catch (error) {
      this.options.log.debug({ error, index: this.options.index }, 'the counters return to their checkpoint')
      // The write may be stored or not, or another fold is at work: only the stored checkpoint says where to continue.
      const tail = this.tail
      this.tail = null
      await tail?.stop()
    }
  }

  private count(record: LogRecord): void {
    this.position = Math.max(this.position, record.sequence)
    const [, , id, kind] = record.subject.split('.')
    if (id === undefined || kind === undefined || !FOLDED.has(kind) || isMoved(record)) return
    try {
      const event = decodeFolded(kind, BigInt(id), record.body)
      if (event) this.add(event, dayOf(id), record.sequence)
    } catch (error) {
      this.options.log.error({ error, subject: record.subject }, 'an event cannot be read and is not counted')
    }
  }

  private add({ project, counted, message }: FoldedEvent, day: string, sequence: number): void {
    let fold = this.projects.get(project)
    if (!fold) {
      fold = { rows: new Map(), recent: new Map(), sequence: 0, revision: 0, dirty: false }
      this.projects.set(project, fold)
    }
    // Invariant: the rows of a project include exactly the records up to the project's sequence.
    if (sequence <= fold.sequence) return
    fold.sequence = sequence
    fold.dirty = true
    if (counted) rowOf(fold.rows, counted.application, day).counts[counted.outcome]++
    // Each target of a message has its own event, but the list has the message once.
    if (message) fold.recent.set(message.id, message.type)
    evictOldest(fold.recent, this.options.recentMax)
  }

  private async checkpoint(): Promise<void> {
    const { counters, index, daysMax } = this.options
    const position = this.position
    if (position === this.written.value) return
    const dirty = [...this.projects].filter(([, fold]) => fold.dirty)
    // Copied in one turn, because counts and sequence belong together and the tail goes on.
    const snapshots = dirty.map(([project, fold]): [string, ProjectFold, ProjectCounters] => {
      fold.dirty = false
      foldOldDays(fold.rows, daysMax)
      const rows = [...fold.rows.values()].map((row) => ({ ...row, counts: { ...row.counts } }))
      return [project, fold, { sequence: fold.sequence, rows, recent: new Map(fold.recent) }]
    })
    await Promise.all(
      snapshots.map(async ([project, fold, snapshot]) => {
        fold.revision = await counters.writeProject(index, project, snapshot, fold.revision)
      }),
    )
    // Written last, so that the position is never ahead of the projects.
    this.written = { value: position, revision: await counters.writePosition(index, position, this.written.revision) }
  }
}

/** Sums the counters of a project over all folds, as of their last checkpoints. */
export function createReadCounters(counters: CounterStore, split: number): ReadCounters {
  return async (project) => {
    const folds = Array.from({ length: split }, (_, index) => index)
    const parts = await mapAtOnce(folds, READS_AT_ONCE, (index) => counters.project(index, project))
    const sums = new Map<string, CounterRow>()
    for (const row of parts.flatMap((part) => part?.rows ?? [])) {
      const sum = rowOf(sums, row.application, row.day)
      for (const what of COUNTED) sum.counts[what] += row.counts[what]
    }
    return [...sums.values()].map(({ application, day, counts }) => {
      const finals = FINAL_KINDS.reduce((sum, kind) => sum + counts[kind], 0)
      return { application, day, counts: { ...counts, pending: counts.accepted - finals } }
    })
  }
}

/** The kinds of events that the fold reads. */
const FOLDED: ReadonlySet<string> = new Set(['accepted', 'final', 'group', 'scheduled'])

const rowKey = (application: string, day: string) => `${application} ${day}`

function rowOf(rows: Map<string, CounterRow>, application: string, day: string): CounterRow {
  const key = rowKey(application, day)
  let row = rows.get(key)
  if (!row) {
    row = { application, day, counts: emptyCounts() }
    rows.set(key, row)
  }
  return row
}

/** The day of acceptance. Ends count on that day too, so that the sums of each day balance. */
function dayOf(id: string): string {
  return new Date(timeOfId(BigInt(id))).toISOString().slice(0, 10)
}

/** Keeps the newest days as they are and adds up the rest. */
function foldOldDays(rows: Map<string, CounterRow>, daysMax: number): void {
  const days = [...new Set([...rows.values()].map((row) => row.day))].filter((day) => day !== OLDER_DAYS).sort()
  while (days.length > daysMax || (rows.size > ROWS_MAX && days.length > 1)) {
    const oldest = days.shift()
    for (const [key, row] of [...rows]) {
      if (row.day !== oldest) continue
      const sum = rowOf(rows, row.application, OLDER_DAYS)
      for (const what of COUNTED) sum.counts[what] += row.counts[what]
      rows.delete(key)
    }
  }
}
