/**
 * Room: refuses new messages while the store has no room for everything that they and the accepted messages still need
 * (owed.ts). So an accepted message always comes to its end, however full the store is.
 *
 * The sizes of the streams are read when somebody asks and they are older than READ_MS. In between, the process adds its
 * own messages. The messages of other processes are missing for that long; the reserve of each stream (src/nats/server/
 * headroom.ts) covers them.
 */
import { CodedError } from '../../../../protocol/errors.js'
import { partitionOf } from '../../../../protocol/message-id.js'
import {
  BROADCAST_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  messagesStream,
  queueStream,
  SCHEDULE_STREAM,
  streamIndexOf,
} from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import { type Broker, BrokerError, type Log, type LogState } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import type { AcceptCommand } from '../../domain/commands.js'
import {
  addDemand,
  type Demand,
  type Fills,
  noDemand,
  owedToEvents,
  owedToExpiry,
  RECORD_BYTES,
  shortOf,
} from './owed.js'

const READ_MS = 500
/** A size that is older than this is read before it counts. */
const STALE_MS = 10_000
/** A refusal is logged once in this time, because a full store refuses every message. */
const TELL_MS = 60_000

export interface Booking {
  /** The message is stored or refused: the next read of the streams shows it. */
  end(): void
}

interface Known {
  log: Log
  state: LogState | null
  stateAtMs: number
}

export class Room {
  private readonly streams: Record<'messages' | 'queue' | 'events', Known[]>
  private readonly shared: Record<'expiry' | 'schedule' | 'broadcast', Known>
  /** Messages of this process that the fills may not show: under way, or stored since the last read began. */
  private readonly booked: Demand
  private ended: Demand
  private toldAtMs = Number.NEGATIVE_INFINITY
  private readAtMs = Number.NEGATIVE_INFINITY
  private reading: Promise<void> | null = null

  constructor(private readonly options: { broker: Broker; clock: Clock; split: number; log: Logger }) {
    const { broker, split } = options
    const known = (name: string): Known => ({ log: broker.log(name), state: null, stateAtMs: 0 })
    const family = (nameOf: (index: number) => string) =>
      Array.from({ length: split }, (_, index) => known(nameOf(index)))
    this.streams = { messages: family(messagesStream), queue: family(queueStream), events: family(eventsStream) }
    this.shared = {
      expiry: known(EXPIRY_STREAM),
      schedule: known(SCHEDULE_STREAM),
      broadcast: known(BROADCAST_STREAM),
    }
    this.booked = noDemand(split)
    this.ended = noDemand(split)
  }

  /**
   * Books room for a message. Rejects with CodedError `storage_full` if there is not enough, or with BrokerError if the
   * sizes of the streams cannot be read. The caller ends the booking when the message is stored or refused.
   */
  async book(command: AcceptCommand): Promise<Booking> {
    const wanted = this.demandOf(command)
    const fills = await this.fills()
    addDemand(this.booked, wanted)
    const short = shortOf(fills, this.booked, wanted)
    if (short !== null) {
      addDemand(this.booked, wanted, -1)
      this.tell(short)
      throw new CodedError('storage_full')
    }
    return { end: () => addDemand(this.ended, wanted) }
  }

  /** How much of EVENTS_<index> is used or owed, as a share of the size at which it refuses. */
  async shareOfEvents(index: number): Promise<number> {
    const fills = await this.fills()
    const fill = fills.events[index]
    return fill ? (fill.bytes + owedToEvents(fills, index, this.booked)) / fill.refusesAtBytes : 0
  }

  /** The same for EXPIRY. */
  async shareOfExpiry(): Promise<number> {
    const fills = await this.fills()
    return (fills.expiry.bytes + owedToExpiry(fills, this.booked)) / fills.expiry.refusesAtBytes
  }

  /** The same for BROADCAST, where nothing more is owed for a message that is stored. */
  async shareOfBroadcast(): Promise<number> {
    const { broadcast } = await this.fills()
    return broadcast.bytes / broadcast.refusesAtBytes
  }

  /** Reads the sizes, so that the first message does not wait for them. */
  start(): void {
    this.readIfOld()
  }

  /** The next question reads the sizes again: room was made. */
  refresh(): void {
    this.readAtMs = Number.NEGATIVE_INFINITY
  }

  private demandOf(command: AcceptCommand): Demand {
    const { split } = this.options
    const demand = noDemand(split)
    const { group, targets, notBeforeMs, title, message, data } = command
    const contentBytes = Buffer.byteLength(title) + Buffer.byteLength(message) + data.length
    const isLater = notBeforeMs !== null && notBeforeMs > this.options.clock.now()
    if (isLater) {
      demand.scheduled = Math.max(1, targets.length)
      demand.scheduledBytes = demand.scheduled * contentBytes
    }
    if (group) {
      const index = streamIndexOf(partitionOf(`${command.project}.${group.name}`), split)
      demand.groups[index] = 1
      demand.groupBytes = contentBytes
      return demand
    }
    const lists = (command.type === 'devices' ? 1 : 0) + (command.idempotency ? 1 : 0)
    const [first] = targets
    if (lists > 0 && first) {
      // A key may be in another stream: then that one has a little less than it should.
      const bytes = lists * (RECORD_BYTES.event + targets.length * RECORD_BYTES.listed)
      demand.listBytes[streamIndexOf(partitionOf(first.device), split)] = bytes
    }
    for (const { device } of targets) {
      const index = streamIndexOf(partitionOf(device), split)
      demand.targets[index] = (demand.targets[index] ?? 0) + 1
      demand.bytes[index] = (demand.bytes[index] ?? 0) + contentBytes
    }
    return demand
  }

  private async fills(): Promise<Fills> {
    await this.read()
    const { messages, queue, events } = this.streams
    const { expiry, schedule, broadcast } = this.shared
    const of = ({ log, state }: Known) => {
      if (state === null) throw new BrokerError('unavailable', `the size of ${log.name} is not known yet`)
      return state
    }
    return {
      ...{ messages: messages.map(of), queue: queue.map(of), events: events.map(of) },
      ...{ expiry: of(expiry), schedule: of(schedule), broadcast: of(broadcast) },
    }
  }

  /** Starts a read if the sizes are old, and waits for it only if a size is too old to count. */
  private async read(): Promise<void> {
    const nowMs = this.readIfOld()
    const isStale = ({ state, stateAtMs }: Known) => state === null || Math.abs(nowMs - stateAtMs) > STALE_MS
    if (!this.all().some(isStale)) return
    await this.reading
    const unknown = this.all().find(isStale)
    if (unknown) throw new BrokerError('unavailable', `the size of ${unknown.log.name} cannot be read`)
  }

  private readIfOld(): number {
    const nowMs = this.options.clock.now()
    if (!this.reading && Math.abs(nowMs - this.readAtMs) >= READ_MS) {
      this.readAtMs = nowMs
      this.reading = this.readAll(nowMs)
    }
    return nowMs
  }

  /** Never rejects: a size that cannot be read stays as it was. */
  private async readAll(nowMs: number): Promise<void> {
    const before = this.ended
    this.ended = noDemand(this.options.split)
    const reads = await Promise.all(this.all().map((known) => this.readOne(known, nowMs)))
    this.reading = null
    // The sizes include now what was stored before the read began.
    if (reads.every(Boolean)) addDemand(this.booked, before, -1)
    else addDemand(this.ended, before)
  }

  private async readOne(known: Known, nowMs: number): Promise<boolean> {
    try {
      known.state = await known.log.state()
      known.stateAtMs = nowMs
      return true
    } catch (error) {
      this.options.log.debug({ error, stream: known.log.name }, 'the size of a stream cannot be read now')
      return false
    }
  }

  private all(): Known[] {
    return [...Object.values(this.streams).flat(), ...Object.values(this.shared)]
  }

  private tell(stream: string): void {
    const nowMs = this.options.clock.now()
    if (nowMs - this.toldAtMs < TELL_MS) return
    this.toldAtMs = nowMs
    this.options.log.warn(
      { stream },
      'messages are refused: this stream has no room beyond what accepted messages need',
    )
  }
}
