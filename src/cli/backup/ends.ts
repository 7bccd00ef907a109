/**
 * Ends the targets that have events in a restored store, but no message. They were accepted after the copy of MESSAGES and
 * before the copy of EVENTS. Without an end, they would be pending for ever.
 */
import { messageByIdFilter, messagesStream } from '../../../protocol/subjects.js'
import type { Broker } from '../../nats/broker.js'
import { EventLog } from '../../store/events.js'
import { DeviceQueue } from '../../store/queue.js'
import { SplitLog } from '../../store/split.js'

const EVENT_SUBJECT = /^event\.(\d+)\.(\d+)\.(accepted|final)$/

/**
 * Resolves with the number of ended targets.
 * @param eventsBefore last sequence of each EVENTS stream when the backup began.
 */
export async function endMissingTargets(
  broker: Broker,
  split: number,
  eventsBefore: Readonly<Record<string, number>>,
): Promise<number> {
  const open = new Set<bigint>()
  for (const [name, before] of Object.entries(eventsBefore)) {
    for (const id of await openIn(broker, name, before + 1)) open.add(id)
  }
  const events = new EventLog(broker, split, `restore-${Date.now().toString(36)}`)
  const messages = new SplitLog(broker, messagesStream, split)
  const queue = new DeviceQueue(broker, split)
  let ended = 0
  for (const id of open) {
    const accepted = await events.readAccepted(id)
    if (accepted === null) continue
    const { device, project, application } = accepted
    const filter = messageByIdFilter(Number((id >> 16n) & 63n), id)
    if ((await messages.ofId(id).next(filter, 1)) !== null) continue
    if ((await queue.walk(device)).some(({ record }) => record.message.id === id)) continue
    const outcome = await events.final(id, {
      kind: 'failed',
      atMs: Date.now(),
      reason: '',
      project,
      application,
      device,
    })
    if (outcome.won) ended++
  }
  return ended
}

/** The ids of targets that were accepted at or after a sequence of the stream, and have not ended. */
async function openIn(broker: Broker, name: string, from: number): Promise<Set<bigint>> {
  const log = broker.log(name)
  const { lastSequence } = await log.state()
  const open = new Set<bigint>()
  if (from > lastSequence) return open
  let done: () => void = () => undefined
  const read = new Promise<void>((resolve) => {
    done = resolve
  })
  const tail = await log.tail({ fromSequence: from }, ({ subject, sequence }) => {
    const [, , id = '', kind] = EVENT_SUBJECT.exec(subject) ?? []
    if (kind === 'accepted') open.add(BigInt(id))
    if (kind === 'final') open.delete(BigInt(id))
    if (sequence >= lastSequence) done()
  })
  await read
  await tail.stop()
  return open
}
