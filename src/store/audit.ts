/**
 * The audit log: who did what to which project, and when (stream AUDIT). An entry is written before its change, so that
 * no change is without one. A change that was refused or failed gets a second entry that says so.
 */
import { createHash } from 'node:crypto'
import { AUDIT_FILTER, AUDIT_STREAM, auditSubject } from '../../protocol/subjects.js'
import { type Broker, isConflict, type Log } from '../nats/broker.js'

export interface AuditEntry {
  atMs: number
  /** `cli:<user of the machine>`, or the id of a credential. */
  actor: string
  /** One of the actions in docs/operate/admin.md, such as `project.create`. */
  action: string
  /** Null if the entry concerns no project. */
  project: string | null
  /** Arguments of the action. Never a secret. */
  details: Record<string, unknown>
  /** Error code, if the action failed. */
  failed?: string
}

export interface AuditPage {
  /** Newest first. */
  entries: AuditEntry[]
  /** `before` for the next page; null on the last page. */
  next: number | null
}

/** Most records read for one page. A page about one project can therefore be short and still have a next page. */
const READS_MAX = 2_000

/** Longest entry. The details of a longer one are shortened. */
const ENTRY_BYTES_MAX = 4_096
const TEXT_LENGTH_MAX = 256
/** Most attempts of one append: another writer of the same subject won each of them. */
const ATTEMPTS_MAX = 20

/** A break in the chain of one subject: a record between two others is gone, or one of them was changed. */
export interface AuditBreak {
  subject: string
  /** Of the record that does not follow the one before it. */
  sequence: number
}

/**
 * The entries of each subject form a chain: each has the SHA-256 of the entry before it. The oldest entries leave with
 * their age, so the first entry of a subject proves nothing, and nobody sees that the newest were taken away.
 *
 * Methods reject with BrokerError if the store is unavailable.
 */
export class AuditLog {
  private readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(AUDIT_STREAM)
  }

  /** @param subject of the entries of one project, unless given. The stream keeps so many entries of each subject. */
  async append(entry: AuditEntry, subject = auditSubject(entry.project)): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const before = await this.log.last(subject, { authoritative: true })
      const after = before && digestOf(before.body)
      try {
        await this.log.append(subject, encode(entry, after), { expectedLastSubjectSequence: before?.sequence ?? 0 })
        return
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  /** Reads the whole log. Entries of versions before 0.2.0 have no chain, and are not judged. */
  async verify(): Promise<{ entries: number; breaks: AuditBreak[] }> {
    const { lastSequence } = await this.log.state()
    const digests = new Map<string, string>()
    const breaks: AuditBreak[] = []
    let entries = 0
    for (let from = 1; from <= lastSequence; entries++) {
      const record = await this.log.next(AUDIT_FILTER, from)
      if (record === null) break
      const { subject, sequence, body } = record
      const before = digests.get(subject)
      const { after } = chainOf(body)
      if (before !== undefined && after !== undefined && after !== before) breaks.push({ subject, sequence })
      digests.set(subject, digestOf(body))
      from = sequence + 1
    }
    return { entries, breaks }
  }

  /** @param options `project`: only its entries; `before`: `next` of the previous page. */
  async page(options: { project?: string; before?: number; limit: number }): Promise<AuditPage> {
    const { firstSequence, lastSequence } = await this.log.state()
    const subject = options.project === undefined ? null : auditSubject(options.project)
    const entries: AuditEntry[] = []
    let sequence = Math.min(options.before ?? Number.POSITIVE_INFINITY, lastSequence)
    for (let reads = 0; sequence >= firstSequence && sequence > 0; sequence--, reads++) {
      if (entries.length === options.limit || reads === READS_MAX) return { entries, next: sequence }
      const record = await this.log.at(sequence)
      if (record && (subject === null || record.subject === subject)) entries.push(decode(record.body))
    }
    return { entries, next: null }
  }
}

function encode(entry: AuditEntry, after: string | null): Uint8Array {
  const body = Buffer.from(JSON.stringify({ v: 1, after, ...entry }))
  if (body.length <= ENTRY_BYTES_MAX) return body
  const texts = Object.entries(entry.details).map(([key, value]) => [key, shortened(value)])
  const shorter = Buffer.from(JSON.stringify({ v: 1, after, ...entry, details: Object.fromEntries(texts) }))
  if (shorter.length <= ENTRY_BYTES_MAX) return shorter
  const details = { omitted: `${body.length} bytes` }
  return Buffer.from(JSON.stringify({ v: 1, after, ...entry, details }))
}

function shortened(value: unknown): unknown {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  if (text === undefined || text.length <= TEXT_LENGTH_MAX) return value
  return `${text.slice(0, TEXT_LENGTH_MAX)}... (${text.length} characters)`
}

const digestOf = (body: Uint8Array): string => createHash('sha256').update(body).digest('base64url')

const chainOf = (body: Uint8Array) => JSON.parse(Buffer.from(body).toString('utf8')) as { after?: string | null }

function decode(body: Uint8Array): AuditEntry {
  const parsed = JSON.parse(Buffer.from(body).toString('utf8')) as AuditEntry & { v: number; after?: string | null }
  const { v, after: _after, ...entry } = parsed
  if (v !== 1) throw new Error(`audit: version ${String(v)} is unknown`)
  return entry
}
