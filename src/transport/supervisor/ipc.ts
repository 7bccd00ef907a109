/** The messages between a supervisor and its workers, over the IPC channel between their processes. */
import type { MetricsSnapshot } from '../../observe/merge.js'
import type { Levels } from '../metrics.js'
import type { DrainPace } from '../upkeep/drain.js'

/** The questions that a supervisor can ask a worker, with the types of their answers. */
export interface Answers {
  levels: Levels
  /** The number of devices. A rolling restart asks for it often, so it is a question of its own. */
  sessions: number
  metrics: MetricsSnapshot
  /** Asks the worker to read its keys and certificate again. */
  reload: null
}
export type Question = keyof Answers

export type ToWorker =
  /** The worker has to leave at this pace. Its process ends afterwards. */
  | { drain: DrainPace }
  /** For a worker that leaves: the number of devices at the other workers of the instance. */
  | { devicesElsewhere: number }
  /** The worker has to listen, or to leave new devices to the other workers. */
  | { listen: boolean }
  | { ask: Question; id: number }

export type FromWorker =
  /** Devices can connect. The service runner (cli/service.ts) sends this message. */
  | { ready: Readonly<Record<string, string | number>> }
  /** The answer to question `id`, or the error in its place. */
  | { answer: number; value: unknown }
  | { answer: number; failed: string }
  /** The last metrics, when the worker ends. */
  | { finalMetrics: MetricsSnapshot }

/** The worker's end of the channel: its `process`. */
export interface Channel {
  send?(message: unknown, sent: () => void): unknown
  on(event: 'message', listener: (message: unknown) => void): unknown
}

/**
 * Sends to the supervisor. The message is dropped if the process has no supervisor, or if the supervisor has ended: the
 * worker then drains by itself.
 */
export function sendToSupervisor(channel: Channel, message: FromWorker): void {
  // Without a callback a closed channel emits an error event of the process, which would end the worker at once.
  channel.send?.(message, () => undefined)
}

/** Carries out the orders of the supervisor. Must not throw. */
export interface Orders {
  setListening(isListening: boolean): void
  setDevicesElsewhere(devices: number): void
}

/** Serves the supervisor. Resolves when it orders this worker to leave; without a supervisor it never resolves. */
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
    sendToSupervisor(channel, message)
  }
  return new Promise((resolve) => {
    channel.on('message', (received) => {
      const message = received as ToWorker
      if ('drain' in message) resolve(message.drain)
      else if ('listen' in message) orders.setListening(message.listen)
      else if ('devicesElsewhere' in message) orders.setDevicesElsewhere(message.devicesElsewhere)
      else if ('ask' in message) void answer(message.ask, message.id)
    })
  })
}
