/** Lists the newest messages of a project from the checkpoints of the folds, so that accepting a message costs no index. */
import { timeOfId } from '../../../../protocol/message-id.js'
import { mapAtOnce } from '../../../collections.js'
import type { CounterStore, RecentMessages, RecentType } from '../../../store/counters.js'
import type { EventLog } from '../../../store/events.js'
import type { ListedMessage, ListMessages } from '../../domain/commands.js'
import { READS_AT_ONCE } from '../../domain/query-budget.js'

/** Newest first, because ids are ordered by time. */
export function createListMessages(counters: CounterStore, events: EventLog, split: number): ListMessages {
  /** Null if its events have left the store. */
  async function listedAs(id: bigint, type: RecentType): Promise<ListedMessage | null> {
    const message = { id, type, acceptedAtMs: timeOfId(id) }
    // The outcome of a message with many targets is computed when that message is queried.
    if (type !== 'device') return message
    const final = await events.readFinal(id)
    if (final) return { ...message, status: final.kind }
    if ((await events.hasLeft(id)) && (await events.readScheduled(id)) === null) return null
    return { ...message, status: 'pending' }
  }

  return async (project, { before, limit }) => {
    const folds = Array.from({ length: split }, (_, index) => index)
    const parts = await mapAtOnce(folds, READS_AT_ONCE, (index) => counters.project(index, project))
    const all: RecentMessages = new Map(parts.flatMap((part) => [...(part?.recent ?? [])]))
    const wanted = [...all].filter(([id]) => before === null || id < before).sort(([a], [b]) => (a < b ? 1 : -1))
    const listed: ListedMessage[] = []
    for (let from = 0; listed.length < limit && from < wanted.length; from += limit) {
      const page = wanted.slice(from, from + limit)
      const known = await mapAtOnce(page, READS_AT_ONCE, ([id, type]) => listedAs(id, type))
      listed.push(...known.filter((message) => message !== null))
    }
    return listed.slice(0, limit)
  }
}
