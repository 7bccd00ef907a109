/** What a supervisor and its workers say to each other over the IPC channel between their processes. */
import type { MetricsSnapshot } from '../../observe/merge.js'
import type { Levels } from '../metrics.js'
import type { DrainPace } from '../upkeep/drain.js'

/** What a worker can be asked, and what it answers. */
export interface Answers {
  levels: Levels
  /** How many devices it has: all that a rolling restart asks for, and often. */
  sessions: number
  metrics: MetricsSnapshot
  /** Reads keys and certificates anew. */
  reload: null
}
export type Question = keyof Answers

export type ToWorker =
  /** Leave, at this pace; then the process ends. */
  | { drain: DrainPace }
  /** While it leaves: so many devices the other workers of the instance have. */
  | { elsewhere: number }
  /** Listen, or leave the port to others. */
  | { accept: boolean }
  | { ask: Question; id: number }

export type FromWorker =
  /** Devices can connect. Sent by the service that the worker is. */
  | { ready: Readonly<Record<string, string | number>> }
  /** The answer to question `id`; `failed` in its place where there is none. */
  | { answer: number; value: unknown }
  | { answer: number; failed: string }
  /** What it counted, at its end. */
  | { finalMetrics: MetricsSnapshot }

/** The worker's end of the channel: `process`. */
export interface Channel {
  send?(message: unknown, sent: () => void): unknown
  on(event: 'message', listener: (message: unknown) => void): unknown
}

/** To whoever started this process, if anybody did, and lost where it has ended: a worker then drains by itself. */
export function tell(channel: Channel, message: FromWorker): void {
  // Without a callback a closed channel is an error event of the process, which ends it at once.
  channel.send?.(message, () => undefined)
}

/** What a worker does when it is told. Must not throw. */
export interface Orders {
  accept(isOpen: boolean): void
  elsewhere(devices: number): void
}

/** Listens to the supervisor. Resolves when it wants this worker to leave; where nobody is there, never. */
export function listenToSupervisor(
  channel: Channel,
  answers: { [Q in Question]: () => Promise<Answers[Q]> | Answers[Q] },
  orders: Orders,
): Promise<DrainPace> {
  const answer = async (question: Question, id: number) => {
    let message: FromWorker
    try {
      message = { answer: id, value: await answers[question]() }
    } catch (error) {
      message = { answer: id, failed: String(error) }
    }
    tell(channel, message)
  }
  return new Promise((resolve) => {
    channel.on('message', (message) => {
      const told = message as ToWorker
      if ('drain' in told) resolve(told.drain)
      else if ('accept' in told) orders.accept(told.accept)
      else if ('elsewhere' in told) orders.elsewhere(told.elsewhere)
      else if ('ask' in told) void answer(told.ask, told.id)
    })
  })
}
