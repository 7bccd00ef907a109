/** Two ways to ask a service: as fast as it answers, and at a rate that does not wait for it. */
import type { Histogram } from 'hdr-histogram-js'
import { record } from './measure/latency.js'
import { nowMicros } from './micros.js'

/** Does one request; resolves with how many messages were accepted with it. */
export type Ask = (intendedMicros: number) => Promise<number>

export interface Asked {
  accepted: number
  seconds: number
}

/** Keeps `window` requests under way for so long. Rejects with the first failure. */
export async function askMax(ask: Ask, window: number, seconds: number): Promise<Asked> {
  const startMicros = nowMicros()
  const endMicros = startMicros + seconds * 1e6
  let accepted = 0
  const line = async () => {
    while (nowMicros() < endMicros) {
      const answered = await ask(nowMicros())
      accepted += answered
    }
  }
  await Promise.all(Array.from({ length: window }, line))
  return { accepted, seconds: (nowMicros() - startMicros) / 1e6 }
}

const TURN_MS = 1

/** Open loop: each request is timed from when its turn was, also where we were late. Resolves when all are answered. */
export async function askAtRate(ask: Ask, perSecond: number, seconds: number, latencies: Histogram): Promise<Asked> {
  const startMicros = nowMicros()
  const total = Math.max(1, Math.round(perSecond * seconds))
  const answers: Promise<number>[] = []
  while (answers.length < total) {
    const due = Math.min(total, Math.floor(((nowMicros() - startMicros) / 1e6) * perSecond) + 1)
    while (answers.length < due) {
      const intended = startMicros + (answers.length / perSecond) * 1e6
      const answer = ask(intended).then((accepted) => {
        record(latencies, nowMicros() - intended)
        return accepted
      })
      // Heard below, when all have been asked.
      answer.catch(() => undefined)
      answers.push(answer)
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_MS))
  }
  const accepted = (await Promise.all(answers)).reduce((sum, one) => sum + one, 0)
  return { accepted, seconds: (nowMicros() - startMicros) / 1e6 }
}
