/**
 * Who did what to which project, and when: the stream AUDIT. An entry is written before the change that it is about, so
 * that there is no change without one; a change that was refused or failed has a second entry that says so.
 */
import { AUDIT_STREAM, auditSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

export interface AuditEntry {
  atMs: number
  /** `cli:<user of the machine>`, or the id of a credential. */
  actor: string
  /** An action of the table in docs/operate/admin.md, such as `project.create`. */
  action: string
  /** Null: it is about none. */
  project: string | null
  /** What exactly: never a secret. */
  details: Record<string, unknown>
  /** Code of the error, where it was not done. */
  failed?: string
}

export interface AuditPage {
  /** Newest first. */
  entries: AuditEntry[]
  /** Where the next page starts; null: there is none. */
  next: number | null
}

/** Records looked at for one page, at most: a page of one project may have fewer than asked for, and a next one. */
const LOOKS_MAX = 2_000

/** Methods reject with BrokerError where the store is away. */
export class AuditLog {
  private readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(AUDIT_STREAM)
  }

  async append(entry: AuditEntry): Promise<void> {
    await this.log.append(auditSubject(entry.project), Buffer.from(JSON.stringify({ v: 1, ...entry })))
  }

  /** `project` absent: of all. `before`: what the page before gave as `next`. */
  async page(options: { project?: string; before?: number; limit: number }): Promise<AuditPage> {
    const { firstSequence, lastSequence } = await this.log.state()
    const subject = options.project === undefined ? null : auditSubject(options.project)
    const entries: AuditEntry[] = []
    let sequence = Math.min(options.before ?? Number.POSITIVE_INFINITY, lastSequence)
    for (let looks = 0; sequence >= firstSequence && sequence > 0; sequence--, looks++) {
      if (entries.length === options.limit || looks === LOOKS_MAX) return { entries, next: sequence }
      const record = await this.log.at(sequence)
      if (record && (subject === null || record.subject === subject)) entries.push(decode(record.body))
    }
    return { entries, next: null }
  }
}

function decode(body: Uint8Array): AuditEntry {
  const { v, ...entry } = JSON.parse(Buffer.from(body).toString('utf8')) as AuditEntry & { v: number }
  if (v !== 1) throw new Error(`audit: version ${String(v)} is unknown`)
  return entry
}
