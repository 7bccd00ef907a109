/** list: the newest messages of a project, from what the folds over EVENTS remember. Accepting a message costs nothing for it. */
import { timeOfId } from '../../../../protocol/message-id.js'
import type { CounterStore, RecentMessages } from '../../../store/counters.js'
import type { EventLog } from '../../../store/events.js'
import type { ListedMessage, ListMessages } from '../../domain/commands.js'

/** Newest first: ids are ordered by time. */
export function createListMessages(counters: CounterStore, events: EventLog, split: number): ListMessages {
  return async (project, { before, limit }) => {
    const parts = await Promise.all(Array.from({ length: split }, (_, index) => counters.project(index, project)))
    const all: RecentMessages = new Map(parts.flatMap((part) => [...(part?.recent ?? [])]))
    const wanted = [...all].filter(([id]) => before === null || id < before).sort(([a], [b]) => (a < b ? 1 : -1))
    return Promise.all(
      wanted.slice(0, limit).map(async ([id, type]): Promise<ListedMessage> => {
        const listed = { id, type, acceptedAtMs: timeOfId(id) }
        // The ends of many are counted when one asks for that message.
        return type === 'device' ? { ...listed, status: (await events.readFinal(id))?.kind ?? 'pending' } : listed
      }),
    )
  }
}
