/**
 * Finds the records that are left in MESSAGES, SCHEDULE and QUEUE. When a world has come to rest, only strays may be
 * left. A stray is a record of a queue whose message has ended, and for which one of these holds:
 * - the links between the records of the queue do not lead to it, because a crash came between two deletes;
 * - a kill -9 of nats-server brought it back;
 * - it has no entry in EXPIRY, because the process that appended it was frozen or crashed before it wrote the entry.
 * A stray harms no message. The expiry step deletes it when its message expires, or earlier when the device connects.
 */
import { decodeQueueRecord } from '../../protocol/envelope.js'
import { partitionOfId } from '../../protocol/message-id.js'
import {
  EXPIRY_STREAM,
  eventSubject,
  eventsStream,
  messagesStream,
  queueStream,
  SCHEDULE_STREAM,
} from '../../protocol/subjects.js'
import type { LogRecord } from '../../src/nats/broker.js'
import { expiryNames, nameOf } from './leaks.js'
import type { SimServer } from './server.js'
import type { SimStream } from './stream.js'

export interface Stray {
  /** For the trace and for violations. */
  description: string
  stream: SimStream
  sequence: number
  device: string
  id: string
  /** The same message was queued before, at a lower sequence. */
  isCopy: boolean
}

export interface LeftOver {
  /** Describes the first record that is still owed to a device; null if there is none. */
  owed: string | null
  strays: Stray[]
}

export function leftOver(server: SimServer, split: number): LeftOver {
  const found: LeftOver = { owed: null, strays: [] }
  const scheduled = server.stream(SCHEDULE_STREAM).next('>', 1)
  if (scheduled) found.owed = `${SCHEDULE_STREAM} still holds ${scheduled.subject} at ${scheduled.sequence}`
  for (let i = 0; i < split; i++) {
    const waiting = server.stream(messagesStream(i)).next('>', 1)
    if (waiting) found.owed ??= `${messagesStream(i)} still holds ${waiting.subject} at ${waiting.sequence}`
    const queued = server.stream(queueStream(i))
    const events = server.stream(eventsStream(i))
    for (let record = queued.next('>', 1); record; record = queued.next('>', record.sequence + 1)) {
      const description = `${queued.name} still holds ${record.subject} at ${record.sequence}`
      const { id } = decodeQueueRecord(record.body).message
      const final = eventSubject(partitionOfId(id), id, 'final')
      const hasEnd =
        events.last(final, Number.POSITIVE_INFINITY) !== null || events.ever.some(({ subject }) => subject === final)
      const isStray =
        hasEnd &&
        (queued.undone.has(record.sequence) ||
          !isReached(queued, record.subject, record.sequence) ||
          !hasEntry(server, record))
      if (!isStray) found.owed ??= description
      else {
        const { subject, sequence } = record
        const [, , device = ''] = subject.split('.')
        const isCopy = queued.ever.some(
          (older) =>
            older.subject === subject && older.sequence < sequence && decodeQueueRecord(older.body).message.id === id,
        )
        found.strays.push({ description, stream: queued, sequence, device, id: String(id), isCopy })
      }
    }
  }
  return found
}

/** True if EXPIRY ever had an entry for the record. */
function hasEntry(server: SimServer, { subject, sequence, body }: LogRecord): boolean {
  const [, , device = ''] = subject.split('.')
  const { id } = decodeQueueRecord(body).message
  return expiryNames(server.stream(EXPIRY_STREAM).ever).has(nameOf(device, String(id), sequence))
}

/**
 * True if a reader of the queue finds the record: it starts at the newest record of the subject and follows `previous`
 * to the first record that lists the older ones.
 */
function isReached(stream: SimStream, subject: string, sequence: number): boolean {
  let at = stream.last(subject, Number.POSITIVE_INFINITY)?.sequence ?? 0
  for (;;) {
    if (at === sequence) return true
    const record = stream.at(at)
    if (record?.subject !== subject) return false
    const { previous, older } = decodeQueueRecord(record.body)
    if (older.length > 0) return older.includes(sequence)
    at = previous
  }
}
