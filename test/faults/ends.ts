/** Every final event there is, read from EVENTS itself, and on our own: a fault of src/store/events.ts shows here. */
import { unpack } from 'msgpackr'
import { eventsStream } from '../../protocol/subjects.js'
import type { Broker, LogRecord } from '../../src/nats/broker.js'
import type { End } from './records.js'

/** Of a device by its id. */
export type FoundEnd = Omit<End, 'device'> & { device: string }

export async function readEnds(broker: Broker, split: number): Promise<FoundEnd[]> {
  const parents = new Map<string, string>()
  const finals: { id: string; kind: string; device: string }[] = []
  const take = ({ subject, body }: LogRecord) => {
    const [, , id = '', kind] = subject.split('.')
    if (kind !== 'accepted' && kind !== 'final') return
    const fields = unpack(body) as unknown[]
    if (kind === 'accepted') parents.set(id, String(fields[1]))
    else finals.push({ id, kind: String(fields[1]), device: String(fields[5]) })
  }
  for (let index = 0; index < split; index++) await readAll(broker, eventsStream(index), take)
  return finals.map(({ id, kind, device }) => ({ parent: parents.get(id) ?? id, kind, device }))
}

/** Up to what stands in the stream now. */
async function readAll(broker: Broker, stream: string, take: (record: LogRecord) => void): Promise<void> {
  const log = broker.log(stream)
  const { messages, firstSequence, lastSequence } = await log.state()
  if (messages === 0) return
  let isRead: () => void = () => undefined
  const read = new Promise<void>((resolve) => {
    isRead = resolve
  })
  const tail = await log.tail({ fromSequence: firstSequence }, (record) => {
    take(record)
    if (record.sequence >= lastSequence) isRead()
  })
  await read
  await tail.stop()
}
