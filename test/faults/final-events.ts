/**
 * Reads every final event from the EVENTS streams, as evidence for the oracle. It reads them as they are stored, because
 * events leave a stream that is short of room. It decodes the fields itself instead of using src/store/events.ts, so that
 * an error there is found.
 */
import { unpack } from 'msgpackr'
import { eventsStream } from '../../protocol/subjects.js'
import type { Broker, Consumption, Log, LogRecord } from '../../src/nats/broker.js'
import type { FinalEvent } from './records.js'

/** A final event that names the device by its id, as the store does. */
export type StoredFinalEvent = Omit<FinalEvent, 'device'> & { device: string }

const POLL_MS = 50

interface Followed {
  log: Log
  seenTo: number
  tail: Consumption
}

export class FinalEvents {
  private readonly parents = new Map<string, string>()
  /** By message id. An event that is appended again, because older ones leave, is left out. */
  private readonly finals = new Map<string, { kind: string; device: string; at: number }>()

  private constructor(private readonly followed: Followed[]) {}

  static async follow(broker: Broker, split: number): Promise<FinalEvents> {
    const followed: Followed[] = []
    const events = new FinalEvents(followed)
    for (let index = 0; index < split; index++) {
      const log = broker.log(eventsStream(index))
      const own: Followed = { log, seenTo: 0, tail: { stop: async () => undefined } }
      own.tail = await log.tail({ fromSequence: 1 }, (record) => {
        events.take(record)
        own.seenTo = record.sequence
      })
      followed.push(own)
    }
    return events
  }

  /** Resolves with all final events that are stored now or have left the streams. */
  async all(): Promise<StoredFinalEvent[]> {
    for (const own of this.followed) {
      const { lastSequence } = await own.log.state()
      while (own.seenTo < lastSequence) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
    return [...this.finals].map(([id, final]) => ({ parent: this.parents.get(id) ?? id, ...final }))
  }

  async stop(): Promise<void> {
    for (const { tail } of this.followed) await tail.stop()
  }

  private take({ subject, body, headers, storedAtMs: at }: LogRecord): void {
    const [, , id = '', kind] = subject.split('.')
    if ((kind !== 'accepted' && kind !== 'final') || headers?.Moved !== undefined) return
    const fields = unpack(body) as unknown[]
    if (kind === 'accepted') this.parents.set(id, String(fields[1]))
    else this.finals.set(id, { kind: String(fields[1]), device: String(fields[5]), at })
  }
}
