/**
 * What the streams still have to take until every accepted message has ended. A core accepts a message only if its
 * streams have room for that and for the new message (ADR 29). Pure.
 *
 * A message that no router has seen may need all of it: its `accepted` event, a place in the queue of its device, an
 * entry in EXPIRY, a step in its trace and its final event. A queued message needs its final event, and perhaps one more
 * step in its trace.
 */

export interface Fill {
  messages: number
  bytes: number
  /** Appends are refused beyond this size. */
  refusesAtBytes: number
}

/** The streams of the flow. Streams of a family stand at their index. */
export interface Fills {
  messages: Fill[]
  queue: Fill[]
  events: Fill[]
  expiry: Fill
  schedule: Fill
  broadcast: Fill
}

/** Messages that are accepted or about to be, and may not be in the fills yet. */
export interface Demand {
  /** Targets and bytes of content, for each stream of MESSAGES; those of scheduled messages included. */
  targets: number[]
  bytes: number[]
  scheduled: number
  scheduledBytes: number
  /** Group messages, for each stream of EVENTS. */
  groups: number[]
  /** Bytes of lists of targets and of idempotency keys, for each stream of EVENTS. */
  listBytes: number[]
  groupBytes: number
}

/** Upper bounds for one record each, with the server's overhead and the longest names. A test keeps them. */
export const RECORD_BYTES = {
  /** The `accepted` event, the final event, or the event of a group message. */
  event: 400,
  trace: 160,
  expiry: 320,
  /** A target in the list of targets of a message, or in the record of its idempotency key. */
  listed: 160,
  /** Subject, identification and links of a record in MESSAGES, QUEUE, SCHEDULE or BROADCAST, beside its content. */
  envelope: 900,
} as const

const UNROUTED_EVENT_BYTES = 2 * RECORD_BYTES.event + 2 * RECORD_BYTES.trace
const QUEUED_EVENT_BYTES = RECORD_BYTES.event + RECORD_BYTES.trace
const GROUP_EVENT_BYTES = RECORD_BYTES.event

export function noDemand(split: number): Demand {
  const zeros = () => new Array<number>(split).fill(0)
  return {
    ...{ targets: zeros(), bytes: zeros(), groups: zeros(), listBytes: zeros() },
    ...{ scheduled: 0, scheduledBytes: 0, groupBytes: 0 },
  }
}

/** Adds `sign` times the second demand to the first. */
export function addDemand(to: Demand, demand: Demand, sign: 1 | -1 = 1): void {
  for (const name of ['targets', 'bytes', 'groups', 'listBytes'] as const) {
    for (const [index, value] of demand[name].entries()) to[name][index] = (to[name][index] ?? 0) + sign * value
  }
  for (const name of ['scheduled', 'scheduledBytes', 'groupBytes'] as const) to[name] += sign * demand[name]
}

/** Bytes that EVENTS_<index> has to take for messages that were accepted. */
export function owedToEvents(fills: Fills, index: number, demand: Demand): number {
  const { messages, queue, schedule } = fills
  const scheduled = Math.ceil((schedule.messages + demand.scheduled) / messages.length)
  const unrouted = countOf(messages[index]) + scheduled + (demand.targets[index] ?? 0)
  return (
    unrouted * UNROUTED_EVENT_BYTES +
    countOf(queue[index]) * QUEUED_EVENT_BYTES +
    (demand.groups[index] ?? 0) * GROUP_EVENT_BYTES +
    (demand.listBytes[index] ?? 0)
  )
}

/** Bytes that EXPIRY has to take for messages that were accepted. */
export function owedToExpiry({ messages, schedule }: Fills, demand: Demand): number {
  const unrouted = sum(messages.map(countOf)) + sum(demand.targets) + schedule.messages + demand.scheduled
  return unrouted * RECORD_BYTES.expiry
}

/**
 * The name of a stream that has no room for what is owed to it, with `demand` included; null if all have. Only streams
 * that `wanted` needs are looked at, so that one full stream does not refuse messages for others.
 */
export function shortOf(fills: Fills, demand: Demand, wanted: Demand): string | null {
  const { messages, queue, events, expiry, schedule, broadcast } = fills
  const isScheduled = wanted.scheduled > 0
  if (isScheduled && isShort(schedule, demand.scheduledBytes + demand.scheduled * RECORD_BYTES.envelope)) {
    return 'SCHEDULE'
  }
  const isUnicast = wanted.targets.some((count) => count > 0)
  if (isUnicast && isShort(expiry, owedToExpiry(fills, demand))) return 'EXPIRY'
  if (wanted.groupBytes > 0 && isShort(broadcast, demand.groupBytes + sum(demand.groups) * RECORD_BYTES.envelope)) {
    return 'BROADCAST'
  }
  for (const [index, own] of messages.entries()) {
    const isWanted = (wanted.targets[index] ?? 0) > 0
    if (!isWanted && (wanted.groups[index] ?? 0) === 0) continue
    if (isShort(events[index], owedToEvents(fills, index, demand))) return `EVENTS_${index}`
    if (!isWanted) continue
    const count = demand.targets[index] ?? 0
    const bytes = (demand.bytes[index] ?? 0) + count * RECORD_BYTES.envelope
    if (isShort(own, bytes)) return `MESSAGES_${index}`
    const scheduledBytes = (schedule.bytes + demand.scheduledBytes) / messages.length
    const toQueue = bytes + own.bytes + own.messages * RECORD_BYTES.envelope + scheduledBytes
    if (isShort(queue[index], toQueue)) return `QUEUE_${index}`
  }
  return null
}

const countOf = (fill: Fill | undefined) => fill?.messages ?? 0
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)
const isShort = (fill: Fill | undefined, owedBytes: number) =>
  fill !== undefined && fill.bytes + owedBytes > fill.refusesAtBytes
