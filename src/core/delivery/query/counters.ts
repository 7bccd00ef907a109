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
  type Position,
  type RecentMessages,
  type Revisioned,
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

/** How often all rows are written, and not only those that changed. */
const BASE_MS = 60_000

interface ProjectFold {
  rows: Map<string, CounterRow>
  recent: RecentMessages
  /** Counted up to here. After a crash it may be ahead of the position of the fold. */
  sequence: number
  /** Of the base; 0: there is none. */
  revision: number
  changesRevision: number
  /** Keys of the rows that differ from the base. */
  changed: Set<string>
  /** Something differs from what is stored: from the base and its changes. */
  dirty: boolean
  /** The changes that are stored differ from the base. */
  hasChanges: boolean
}

/** The fold over one EVENTS stream, from one start to one stop. */
export class StatsFold {
  private projects = new Map<string, ProjectFold>()
  private position = 0
  private written: Revisioned<Position> = { value: { bases: 0, all: 0 }, revision: 0 }
  private basesAtMs = Number.NEGATIVE_INFINITY
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
    return this.written.value.all
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.work
    // Without a tail the last checkpoint failed, and the counts in memory must not be written.
    if (!this.tail) return
    await this.tail.stop()
    // After a failure, the next fold counts again from the last checkpoint.
    await this.checkpoint(true).catch((error) =>
      this.options.log.debug({ error }, 'no last checkpoint of the counters'),
    )
  }

  private async load(): Promise<void> {
    const { counters, index, events, log } = this.options
    // In this order: the checkpoints of projects are never behind the position, and skip events that they include.
    this.written = await counters.position(index)
    this.position = this.written.value.all
    this.projects = new Map()
    for (const [project, { value, revision, changesRevision }] of await counters.projects(index)) {
      const rows = new Map(value.rows.map((row) => [rowKey(row.application, row.day), row]))
      const { recent, sequence } = value
      // Which rows differ from the base is not known any more: the next checkpoint writes a base.
      const fold = { rows, recent, sequence, revision, changesRevision, changed: new Set(rows.keys()) }
      this.projects.set(project, { ...fold, dirty: false, hasChanges: true })
    }
    this.basesAtMs = Number.NEGATIVE_INFINITY
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
      if (this.tail) await this.checkpoint(this.options.clock.now() - this.basesAtMs >= BASE_MS)
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
      fold = {
        ...{ rows: new Map(), recent: new Map(), sequence: 0, revision: 0, changesRevision: 0 },
        ...{ changed: new Set(), dirty: false, hasChanges: false },
      }
      this.projects.set(project, fold)
    }
    // Invariant: the rows of a project include exactly the records up to the project's sequence.
    if (sequence <= fold.sequence) return
    fold.sequence = sequence
    fold.dirty = true
    if (counted) {
      rowOf(fold.rows, counted.application, day).counts[counted.outcome]++
      fold.changed.add(rowKey(counted.application, day))
    }
    // Each target of a message has its own event, but the list has the message once.
    if (message) fold.recent.set(message.id, message.type)
    evictOldest(fold.recent, this.options.recentMax)
  }

  /** @param isBase writes all rows of each project, and not only those that changed. */
  private async checkpoint(isBase: boolean): Promise<void> {
    const { counters, index, clock } = this.options
    const position = this.position
    const { bases, all } = this.written.value
    if (position === all && !(isBase && bases < all)) return
    const due = [...this.projects].filter(([, fold]) => fold.dirty || (isBase && fold.hasChanges))
    // Copied in one turn, because counts and sequence belong together and the tail goes on.
    const writes = due.map(([project, fold]) => this.prepareWrite(project, fold, isBase))
    await Promise.all(writes.map((write) => write()))
    // Written last, so that the position is never ahead of the projects.
    const value = { bases: isBase ? position : bases, all: position }
    this.written = { value, revision: await counters.writePosition(index, value, this.written.revision) }
    if (isBase) this.basesAtMs = clock.now()
  }

  private prepareWrite(project: string, fold: ProjectFold, isBase: boolean): () => Promise<void> {
    const { counters, index, daysMax } = this.options
    fold.dirty = false
    // Days that are added up take rows away, which changes cannot say.
    const wereAddedUp = foldOldDays(fold.rows, daysMax)
    const needsBase = isBase || wereAddedUp || fold.revision === 0
    if (needsBase) fold.changed.clear()
    fold.hasChanges = !needsBase
    const kept = needsBase ? [...fold.rows.values()] : [...fold.changed].flatMap((key) => fold.rows.get(key) ?? [])
    const rows = kept.map((row) => ({ ...row, counts: { ...row.counts } }))
    const snapshot = { sequence: fold.sequence, rows, recent: new Map(fold.recent) }
    return async () => {
      if (needsBase) fold.revision = await counters.writeBase(index, project, snapshot, fold.revision)
      else {
        const revisions = { base: fold.revision, changes: fold.changesRevision }
        fold.changesRevision = await counters.writeChanges(index, project, snapshot, revisions)
      }
    }
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

/** Keeps the newest days as they are and adds up the rest. Returns true if there was a rest. */
function foldOldDays(rows: Map<string, CounterRow>, daysMax: number): boolean {
  let isChanged = false
  const days = [...new Set([...rows.values()].map((row) => row.day))].filter((day) => day !== OLDER_DAYS).sort()
  while (days.length > daysMax || (rows.size > ROWS_MAX && days.length > 1)) {
    const oldest = days.shift()
    isChanged = true
    for (const [key, row] of [...rows]) {
      if (row.day !== oldest) continue
      const sum = rowOf(rows, row.application, OLDER_DAYS)
      for (const what of COUNTED) sum.counts[what] += row.counts[what]
      rows.delete(key)
    }
  }
  return isChanged
}
