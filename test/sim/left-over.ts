/**
 * What is still in MESSAGES, SCHEDULE and QUEUE when a world has come to rest: nothing, but for strays. A stray is a record of a
 * queue whose message has ended, and that
 * - no walk reaches: a crash came between two deletes;
 * - or a killed server brought back;
 * - or has no entry in EXPIRY: whoever appended it stood still until its message had ended, or was cut off.
 * Nobody is owed it, and the expiry step sweeps it out when its message expires, by the entry of that record or of an earlier
 * one; unless its device comes before.
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
  /** For people. */
  what: string
  stream: SimStream
  sequence: number
  device: string
  id: string
  /** Its message was queued before, at an older sequence. */
  isCopy: boolean
}

export interface LeftOver {
  /** The first record that should not be there any more. */
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
      const what = `${queued.name} still holds ${record.subject} at ${record.sequence}`
      const { id } = decodeQueueRecord(record.body).message
      const end = events.last(eventSubject(partitionOfId(id), id, 'final'), Number.POSITIVE_INFINITY)
      const isStray =
        end !== null &&
        (queued.undone.has(record.sequence) ||
          !isReached(queued, record.subject, record.sequence) ||
          !hasEntry(server, record))
      if (!isStray) found.owed ??= what
      else {
        const { subject, sequence } = record
        const [, , device = ''] = subject.split('.')
        const isCopy = queued.ever.some(
          (older) =>
            older.subject === subject && older.sequence < sequence && decodeQueueRecord(older.body).message.id === id,
        )
        found.strays.push({ what, stream: queued, sequence, device, id: String(id), isCopy })
      }
    }
  }
  return found
}

/** Whoever knows that it was appended writes its entry, and takes it out where its message has ended. */
function hasEntry(server: SimServer, { subject, sequence, body }: LogRecord): boolean {
  const [, , device = ''] = subject.split('.')
  const { id } = decodeQueueRecord(body).message
  return expiryNames(server.stream(EXPIRY_STREAM).ever).has(nameOf(device, String(id), sequence))
}

/** Whether a walk from the newest record of the subject meets it: along `previous`, as far as the first list of older ones. */
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
