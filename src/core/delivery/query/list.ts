/** Lists the newest messages of a project from the checkpoints of the folds, so that accepting a message costs no index. */
import { timeOfId } from '../../../../protocol/message-id.js'
import { mapAtOnce } from '../../../collections.js'
import type { CounterStore, RecentMessages } from '../../../store/counters.js'
import type { EventLog } from '../../../store/events.js'
import type { ListedMessage, ListMessages } from '../../domain/commands.js'
import { READS_AT_ONCE } from '../../domain/query-budget.js'

/** Newest first, because ids are ordered by time. */
export function createListMessages(counters: CounterStore, events: EventLog, split: number): ListMessages {
  return async (project, { before, limit }) => {
    const folds = Array.from({ length: split }, (_, index) => index)
    const parts = await mapAtOnce(folds, READS_AT_ONCE, (index) => counters.project(index, project))
    const all: RecentMessages = new Map(parts.flatMap((part) => [...(part?.recent ?? [])]))
    const wanted = [...all].filter(([id]) => before === null || id < before).sort(([a], [b]) => (a < b ? 1 : -1))
    return mapAtOnce(wanted.slice(0, limit), READS_AT_ONCE, async ([id, type]): Promise<ListedMessage> => {
      const listed = { id, type, acceptedAtMs: timeOfId(id) }
      // The outcome of a message with many targets is computed when that message is queried.
      return type === 'device' ? { ...listed, status: (await events.readFinal(id))?.kind ?? 'pending' } : listed
    })
  }
}
