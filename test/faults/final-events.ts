/**
 * Reads every final event from the EVENTS streams, as evidence for the oracle. It decodes the fields itself instead of
 * using src/store/events.ts, so that an error there is found.
 */
import { unpack } from 'msgpackr'
import { eventsStream } from '../../protocol/subjects.js'
import type { Broker, LogRecord } from '../../src/nats/broker.js'
import type { FinalEvent } from './records.js'

/** A final event that names the device by its id, as the store does. */
export type StoredFinalEvent = Omit<FinalEvent, 'device'> & { device: string }

export async function readFinalEvents(broker: Broker, split: number): Promise<StoredFinalEvent[]> {
  const parents = new Map<string, string>()
  const finals: { id: string; kind: string; device: string; at: number }[] = []
  const readRecord = ({ subject, body, storedAtMs: at }: LogRecord) => {
    const [, , id = '', kind] = subject.split('.')
    if (kind !== 'accepted' && kind !== 'final') return
    const fields = unpack(body) as unknown[]
    if (kind === 'accepted') parents.set(id, String(fields[1]))
    else finals.push({ id, kind: String(fields[1]), device: String(fields[5]), at })
  }
  for (let index = 0; index < split; index++) await readAll(broker, eventsStream(index), readRecord)
  return finals.map(({ id, ...event }) => ({ ...event, parent: parents.get(id) ?? id }))
}

/** Calls `onRecord` for each record up to the present end of the stream. */
async function readAll(broker: Broker, stream: string, onRecord: (record: LogRecord) => void): Promise<void> {
  const log = broker.log(stream)
  const { messages, firstSequence, lastSequence } = await log.state()
  if (messages === 0) return
  let isRead: () => void = () => undefined
  const read = new Promise<void>((resolve) => {
    isRead = resolve
  })
  const tail = await log.tail({ fromSequence: firstSequence }, (record) => {
    onRecord(record)
    if (record.sequence >= lastSequence) isRead()
  })
  await read
  await tail.stop()
}
