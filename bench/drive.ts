/** Sends messages to devices, either at a fixed rate or as fast as answers return. */
import { nowMicros } from './micros.js'

export interface Feed {
  /** Queues a message to device `index`. It leaves with the next flush() at the latest. */
  send(index: number, sequence: number, intendedMicros: number): void
  flush(): void
  /** Number of messages with any answer. */
  readonly answered: number
}

export interface Drive {
  feed: Feed
  connections: number
  seconds: number
  /** Shared by all rounds, so that each message of a run has its own sequence number. */
  sequences: Sequences
}

export class Sequences {
  #next = 0
  next(): number {
    return this.#next++
  }
  get used(): number {
    return this.#next
  }
}

export interface Driven {
  sent: number
  answered: number
  seconds: number
}

/** A prime, so that consecutive messages go to devices of different generators and workers. */
const STRIDE = 7919
const TURN_MS = 1
/** Time for the last answers to arrive after the last message was sent. */
export const DRAIN_MS = 10_000

/** Keeps `window` messages unanswered at any time. */
export function driveMax({ feed, connections, seconds, sequences }: Drive, window: number): Promise<Driven> {
  const startMicros = nowMicros()
  const endMicros = startMicros + seconds * 1e6
  const answeredBefore = feed.answered
  let sent = 0
  return new Promise((resolve) => {
    const turn = () => {
      const now = nowMicros()
      if (now >= endMicros) {
        const answered = feed.answered - answeredBefore
        resolve({ sent, answered, seconds: (now - startMicros) / 1e6 })
        return
      }
      while (sent - (feed.answered - answeredBefore) < window) {
        const sequence = sequences.next()
        feed.send((sequence * STRIDE) % connections, sequence, now)
        sent++
      }
      feed.flush()
      setImmediate(turn)
    }
    turn()
  })
}

/** Open loop: the stamp is the time at which the message was due, even if the sender was late. */
export function driveRate({ feed, connections, seconds, sequences }: Drive, perSecond: number): Promise<Driven> {
  const startMicros = nowMicros()
  const total = Math.round(perSecond * seconds)
  const answeredBefore = feed.answered
  let sent = 0
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      const elapsedSeconds = (nowMicros() - startMicros) / 1e6
      const due = Math.min(total, Math.floor(elapsedSeconds * perSecond))
      for (; sent < due; sent++) {
        const sequence = sequences.next()
        feed.send((sequence * STRIDE) % connections, sequence, startMicros + (sent / perSecond) * 1e6)
      }
      feed.flush()
      if (sent < total) return
      clearInterval(timer)
      resolve({ sent, answered: feed.answered - answeredBefore, seconds: elapsedSeconds })
    }, TURN_MS)
  })
}

/** Resolves with true when `sent` messages are answered, and with false after the time-out. */
export async function drained(feed: Feed, sent: number, timeoutMs = DRAIN_MS): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (feed.answered < sent) {
    if (performance.now() > deadline) return false
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return true
}
