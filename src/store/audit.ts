/**
 * The audit log: who did what to which project, and when (stream AUDIT). An entry is written before its change, so that
 * no change is without one. A change that was refused or failed gets a second entry that says so.
 */
import { AUDIT_STREAM, auditSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

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

/** Methods reject with BrokerError if the store is unavailable. */
export class AuditLog {
  private readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(AUDIT_STREAM)
  }

  async append(entry: AuditEntry): Promise<void> {
    await this.log.append(auditSubject(entry.project), Buffer.from(JSON.stringify({ v: 1, ...entry })))
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

function decode(body: Uint8Array): AuditEntry {
  const { v, ...entry } = JSON.parse(Buffer.from(body).toString('utf8')) as AuditEntry & { v: number }
  if (v !== 1) throw new Error(`audit: version ${String(v)} is unknown`)
  return entry
}
