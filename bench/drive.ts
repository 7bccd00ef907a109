/** Sends messages: at a rate that does not wait for anybody, or as many as come back. */
import { nowMicros } from './micros.js'

export interface Feed {
  /** `index` of the device; when it was meant to be sent. Sent at the next flush at the latest. */
  send(index: number, sequence: number, intendedMicros: number): void
  flush(): void
  /** How many of them were answered, for good or ill. */
  readonly answered: number
}

export interface Drive {
  feed: Feed
  connections: number
  seconds: number
  /** Counts on over all rounds, so that each message of a run has a sequence of its own. */
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

/** A prime: consecutive messages go to devices that have nothing to do with each other. */
const STRIDE = 7919
const TURN_MS = 1
/** After the last message, so long for the last answers. */
export const DRAIN_MS = 10_000

/** Keeps `window` messages under way. */
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

/** Open loop: each message is stamped with the time at which its turn was, also where we were late. */
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

/** Resolves when everything was answered, or nothing more can be expected. False: something is missing. */
export async function drained(feed: Feed, sent: number, timeoutMs = DRAIN_MS): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (feed.answered < sent) {
    if (performance.now() > deadline) return false
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return true
}
