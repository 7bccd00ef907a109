/** Two ways to load a service with requests: as fast as it answers, and at a fixed rate. */
import type { Histogram } from 'hdr-histogram-js'
import { record } from './measure/latency.js'
import { nowMicros } from './micros.js'

/** Makes one request. Resolves with the number of messages that the service accepted. */
export type Ask = (intendedMicros: number) => Promise<number>

export interface Asked {
  accepted: number
  seconds: number
}

/** Keeps `window` requests open for `seconds`. Rejects with the first failure. */
export async function askMax(ask: Ask, window: number, seconds: number): Promise<Asked> {
  const startMicros = nowMicros()
  const endMicros = startMicros + seconds * 1e6
  let accepted = 0
  const lane = async () => {
    while (nowMicros() < endMicros) {
      const answered = await ask(nowMicros())
      accepted += answered
    }
  }
  await Promise.all(Array.from({ length: window }, lane))
  return { accepted, seconds: (nowMicros() - startMicros) / 1e6 }
}

const TURN_MS = 1

/** Open loop: a latency begins when the request was due, even if it was sent late. Resolves when all are answered. */
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
      // Promise.all below reports the failure, once every request was made.
      answer.catch(() => undefined)
      answers.push(answer)
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_MS))
  }
  const accepted = (await Promise.all(answers)).reduce((sum, one) => sum + one, 0)
  return { accepted, seconds: (nowMicros() - startMicros) / 1e6 }
}
