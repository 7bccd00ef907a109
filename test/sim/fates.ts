/** Reads the accepted and final events of each target from the simulated EVENTS streams. */
import { unpack } from 'msgpackr'
import { eventsStream } from '../../protocol/subjects.js'
import type { Sent } from './app-server.js'
import type { World } from './world.js'

export interface Fate {
  id: string
  parent: string
  project: string
  device: string
  /** Number of its accepted events. */
  accepted: number
  /** The kinds of its final events. */
  finals: string[]
  /** The time at which the store has its first final event; 0 without one. */
  endedAtMs: number
}

export class Fates {
  private readonly byId = new Map<string, Fate>()
  private readonly byParent = new Map<string, Fate[]>()

  fateOf(id: string): Fate {
    let fate = this.byId.get(id)
    if (!fate) {
      fate = { id, parent: '', project: '', device: '', accepted: 0, finals: [], endedAtMs: 0 }
      this.byId.set(id, fate)
    }
    return fate
  }

  adopt(fate: Fate): void {
    const siblings = this.byParent.get(fate.parent)
    if (siblings) siblings.push(fate)
    else this.byParent.set(fate.parent, [fate])
  }

  all(): Iterable<Fate> {
    return this.byId.values()
  }

  /** The targets of a message; none if no answer said that it was accepted. */
  of(sent: Sent): Fate[] {
    return sent.accepted ? (this.byParent.get(sent.accepted.id.toString()) ?? []) : []
  }
}

/** Decodes the fields of an event itself instead of using src/store/events.ts, so that an error there is found. */
export function readFates(world: World): Fates {
  const fates = new Fates()
  for (let i = 0; i < world.plan.split; i++) {
    const stream = world.broker.server.stream(eventsStream(i))
    // Records that have left the stream count too. A record with the header Moved is a copy of an older record.
    for (const record of stream.ever) {
      if (record.headers?.Moved !== undefined) continue
      const [, , id, kind] = record.subject.split('.')
      if (id === undefined || (kind !== 'accepted' && kind !== 'final')) continue
      const fields = unpack(record.body) as unknown[]
      const fate = fates.fateOf(id)
      if (kind === 'accepted') {
        fate.accepted++
        fate.parent = String(fields[1])
        fate.project = String(fields[2])
        fate.device = String(fields[4])
        fates.adopt(fate)
      } else {
        fate.finals.push(String(fields[1]))
        fate.endedAtMs ||= record.storedAtMs
      }
    }
  }
  return fates
}
