/** One simulated JetStream stream: its records and limits. Time comes in as an argument; latency is SimClient's. */
import { type AppendOptions, BrokerError, type LogRecord, type LogState } from '../../src/nats/broker.js'
import { refusesAtBytes } from '../../src/nats/server/headroom.js'
import type { StreamDefinition } from '../../src/nats/server/streams.js'
import { subjectMatches } from './subjects.js'

/** Bytes of a record beside its subject and body, roughly as nats-server counts them. */
const RECORD_BYTES = 38

export class SimStream {
  lastSequence = 0
  /** The subjects, by sequence, of deleted records that a kill -9 brought back. */
  readonly undone = new Map<number, string>()
  /** All records that were ever stored, in order, for the checks of a run. Empty if the run does not keep them. */
  readonly ever: LogRecord[] = []
  /** In order of sequence. */
  #records = new Map<number, LogRecord>()
  readonly #sequences = new Map<string, number[]>()
  /** The sequences of all subjects with the same first two tokens, so that a filter need not read every record. */
  readonly #families = new Map<string, number[]>()
  /** The last record of each subject as the server knows it: nats-server 2.9 forgets older ones (see Log.delete). */
  readonly #lastOf = new Map<string, number>()
  readonly #seen = new Map<string, { sequence: number; atMs: number }>()
  /** Recent deletions, which a kill -9 of the server can undo. */
  #deleted: { record: LogRecord; atMs: number }[] = []
  readonly #replaced = new Map<string, LogRecord>()
  #bytes = 0

  constructor(
    readonly definition: StreamDefinition,
    readonly createdMs: number,
    readonly forgetsOlder: () => boolean,
    private readonly keepsEver = true,
  ) {}

  get name(): string {
    return this.definition.name
  }

  /** Throws BrokerError if a consumer's filter is wider than each subject of the stream, as the server does. */
  checkFilter(filter: string | undefined): void {
    if (filter === undefined || this.hasSubject(filter)) return
    throw new BrokerError('unavailable', `${this.name}: filter ${filter} is not a subset of its subjects`)
  }

  hasSubject(subject: string): boolean {
    return this.definition.subjects.some((filter) => subjectMatches(filter, subject))
  }

  /** Stores a record, or gives the sequence of an earlier record with the same message id. Throws BrokerError. */
  append(subject: string, body: Uint8Array, options: AppendOptions, nowMs: number): LogRecord | { sequence: number } {
    this.#expire(nowMs)
    const known = options.messageId === undefined ? undefined : this.#seen.get(options.messageId)
    if (known && nowMs - known.atMs < this.definition.duplicateWindowMs) return { sequence: known.sequence }
    const expected = options.expectedLastSubjectSequence
    const last = this.#lastOf.get(subject) ?? 0
    if (expected !== undefined && expected !== last) {
      throw new BrokerError('wrong_last_sequence', `${subject}: wrong last sequence: ${last}`, last)
    }
    this.#makeRoom(subject, body)
    const record = {
      subject,
      sequence: ++this.lastSequence,
      body: body.slice(),
      storedAtMs: nowMs,
      headers: options.headers ? { ...options.headers } : null,
    }
    this.#insert(record)
    if (this.keepsEver) this.ever.push(record)
    if (options.messageId !== undefined) {
      this.#forgetSeen(nowMs)
      this.#seen.set(options.messageId, { sequence: record.sequence, atMs: nowMs })
    }
    return record
  }

  at(sequence: number): LogRecord | null {
    return this.#records.get(sequence) ?? null
  }

  /** The last record of a subject at a replica that has only the records stored until `asOfMs`. */
  last(subject: string, asOfMs: number): LogRecord | null {
    const last = this.at(this.#lastOf.get(subject) ?? 0)
    if (!last || last.storedAtMs <= asOfMs) return last
    const older = [...(this.#sequences.get(subject) ?? [])].reverse().map((sequence) => this.at(sequence))
    return older.find((record) => record && record.storedAtMs <= asOfMs) ?? this.#replacedOf(subject, asOfMs)
  }

  next(filter: string, fromSequence: number): LogRecord | null {
    if (!isWildcard(filter)) return this.#nextOf(this.#sequences.get(filter) ?? [], filter, fromSequence)
    const family = familyOf(filter)
    if (family !== null) return this.#nextOf(this.#families.get(family) ?? [], filter, fromSequence)
    for (let sequence = Math.max(fromSequence, this.#first()); sequence <= this.lastSequence; sequence++) {
      const record = this.#records.get(sequence)
      if (record && subjectMatches(filter, record.subject)) return record
    }
    return null
  }

  #nextOf(sequences: readonly number[], filter: string, fromSequence: number): LogRecord | null {
    for (let i = firstFrom(sequences, fromSequence); i < sequences.length; i++) {
      const record = this.#records.get(sequences[i] ?? 0)
      if (record && subjectMatches(filter, record.subject)) return record
    }
    return null
  }

  delete(sequence: number, nowMs: number): boolean {
    const record = this.#records.get(sequence)
    if (!record) return false
    this.#remove(record)
    this.#deleted = this.#deleted.filter(({ atMs }) => nowMs - atMs < UNSYNCED_MS)
    this.#deleted.push({ record, atMs: nowMs })
    return true
  }

  purge(filter: string, beforeSequence: number, nowMs: number): void {
    for (const { sequence, subject } of [...this.#records.values()]) {
      if (sequence < beforeSequence && subjectMatches(filter, subject)) this.delete(sequence, nowMs)
    }
  }

  state(): LogState {
    return {
      messages: this.#records.size,
      firstSequence: this.#first(),
      lastSequence: this.lastSequence,
      incarnation: this.createdMs,
      bytes: this.#bytes,
      bytesMax: this.definition.bytesMax,
      recordsMax: this.definition.recordsMax,
      refusesAtBytes: refusesAtBytes(this.definition.bytesMax, this.definition.whenFull === 'refuse' ? 'new' : 'old'),
    }
  }

  /** Undoes each recent deletion with this probability, after a kill -9. */
  undoDeletes(random: () => number, probability: number, nowMs: number): void {
    const undone = this.#deleted.filter(({ atMs }) => nowMs - atMs < UNSYNCED_MS && random() < probability)
    this.#deleted = []
    if (undone.length === 0) return
    for (const { record } of undone) {
      this.#insert(record)
      this.undone.set(record.sequence, record.subject)
    }
    this.#records = new Map([...this.#records].sort(([a], [b]) => a - b))
  }

  #insert(record: LogRecord): void {
    const { sequence, subject } = record
    this.#records.set(sequence, record)
    this.#bytes += RECORD_BYTES + subject.length + record.body.length
    const sequences = this.#sequences.get(subject) ?? []
    sequences.push(sequence)
    if (sequence < (sequences.at(-2) ?? 0)) sequences.sort((a, b) => a - b)
    this.#sequences.set(subject, sequences)
    this.#lastOf.set(subject, sequences.at(-1) ?? sequence)
    const family = familyOf(subject)
    if (family === null) return
    const own = this.#families.get(family) ?? []
    own.splice(firstFrom(own, sequence), 0, sequence)
    this.#families.set(family, own)
  }

  #remove({ subject, sequence, body }: LogRecord): void {
    this.#records.delete(sequence)
    this.#bytes -= RECORD_BYTES + subject.length + body.length
    const left = (this.#sequences.get(subject) ?? []).filter((other) => other !== sequence)
    if (left.length > 0) this.#sequences.set(subject, left)
    else this.#sequences.delete(subject)
    this.#leaveFamily(subject, sequence)
    if (this.#lastOf.get(subject) !== sequence) return
    const older = left.at(-1)
    if (older === undefined || this.forgetsOlder()) this.#lastOf.delete(subject)
    else this.#lastOf.set(subject, older)
  }

  #leaveFamily(subject: string, sequence: number): void {
    const family = familyOf(subject)
    const own = family === null ? undefined : this.#families.get(family)
    if (family === null || !own) return
    own.splice(firstFrom(own, sequence), 1)
    if (own.length === 0) this.#families.delete(family)
  }

  #makeRoom(subject: string, body: Uint8Array): void {
    const { perSubjectMax, bytesMax, recordsMax, recordBytesMax, whenFull, name } = this.definition
    const sequences = this.#sequences.get(subject) ?? []
    if (perSubjectMax > 0 && sequences.length >= perSubjectMax) {
      for (const sequence of sequences.slice(0, sequences.length - perSubjectMax + 1)) this.#evict(sequence)
    }
    if (recordBytesMax > 0 && body.length > recordBytesMax) {
      throw new BrokerError('unavailable', `${name}: message size exceeds maximum allowed`)
    }
    if (recordsMax > 0 && this.#records.size >= recordsMax) {
      throw new BrokerError('full', `${name}: maximum messages exceeded`)
    }
    const size = RECORD_BYTES + subject.length + body.length
    while (this.#bytes + size > bytesMax) {
      if (whenFull === 'refuse') throw new BrokerError('full', `${name}: maximum bytes exceeded`)
      this.#evict(this.#first())
    }
  }

  #evict(sequence: number): void {
    const record = this.#records.get(sequence)
    if (!record) return
    this.#remove(record)
    // A lagging replica still has the replaced value of a key.
    if (this.definition.bucket) this.#replaced.set(record.subject, record)
  }

  #replacedOf(subject: string, asOfMs: number): LogRecord | null {
    const replaced = this.#replaced.get(subject)
    return replaced && replaced.storedAtMs <= asOfMs ? replaced : null
  }

  #forgetSeen(nowMs: number): void {
    for (const [id, { atMs }] of this.#seen) {
      if (nowMs - atMs < this.definition.duplicateWindowMs) return
      this.#seen.delete(id)
    }
  }

  /** Deletes records above the age limit, as the server's timer does. */
  expire(nowMs: number): void {
    this.#expire(nowMs)
  }

  get bytes(): number {
    return this.#bytes
  }

  #expire(nowMs: number): void {
    const { ageMs } = this.definition
    for (const record of this.#records.values()) {
      if (ageMs === 0 || nowMs - record.storedAtMs <= ageMs) return
      this.#remove(record)
    }
  }

  /** The first sequence; of an empty stream it is the last sequence plus one, as the server says. */
  #first(): number {
    for (const sequence of this.#records.keys()) return sequence
    return this.lastSequence + 1
  }
}

/** nats-server may hold a deletion in memory for this time before it writes it. */
const UNSYNCED_MS = 2_000

const isWildcard = (filter: string) => filter.includes('*') || filter.endsWith('>')

/** The first two tokens of a subject or filter; null if it has fewer, or if one of them is a wildcard. */
function familyOf(filter: string): string | null {
  const first = filter.indexOf('.')
  if (first < 0) return null
  const second = filter.indexOf('.', first + 1)
  const family = second < 0 ? filter : filter.slice(0, second)
  return isWildcard(family) ? null : family
}

/** The index of the first sequence at or after `from`. */
function firstFrom(sequences: readonly number[], from: number): number {
  let low = 0
  let high = sequences.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sequences[middle] ?? 0) < from) low = middle + 1
    else high = middle
  }
  return low
}
