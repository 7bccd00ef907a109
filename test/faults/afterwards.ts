/** Reads the state of the API and of the store after the load of a fault run has ended, as evidence for the oracle. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Api, each } from '../../bench/demo/api.js'
import { INGRESS_STREAM, messagesStream } from '../../protocol/subjects.js'
import type { Afterwards, AppRecord, AttemptRecord, FinalEvent } from './records.js'
import type { Rig } from './rig.js'

const POLL_MS = 500
const REQUESTS_IN_FLIGHT = 8

const apiOf = ({ system, tokens }: Rig, project: string) => new Api(system.httpUrl, project, tokens[project] ?? '')

/**
 * Waits until every target has ended and no record of a publisher or of a message is stored. Gives the number of those
 * that are still pending after `timeoutMs`; 0 in the good case.
 */
export async function awaitNothingPending(rig: Rig, timeoutMs: number): Promise<number> {
  const until = Date.now() + timeoutMs
  for (;;) {
    const totals = await totalsOf(rig)
    let pending = await countStored(rig)
    for (const total of totals.values()) pending += total.pending ?? 0
    if (pending === 0 || Date.now() > until) return pending
    await sleep(POLL_MS)
  }
}

/** Counts the records in INGRESS and in MESSAGES: the API does not count a message that has no accepted event yet. */
async function countStored({ admin, system }: Rig): Promise<number> {
  const messages = Array.from({ length: system.config.store.split }, (_, index) => messagesStream(index))
  const states = await Promise.all([INGRESS_STREAM, ...messages].map((stream) => admin.log(stream).state()))
  return states.reduce((sum, state) => sum + state.messages, 0)
}

export async function readAfterwards(rig: Rig, attempts: AttemptRecord[], app: AppRecord[]): Promise<Afterwards> {
  const counts = await countsOfMissing(rig, attempts, app)
  const totals = await totalsOf(rig)
  return { at: Date.now(), counts, totals, finalEvents: await finalEventsOf(rig) }
}

async function finalEventsOf({ driver, finalEvents }: Rig): Promise<FinalEvent[]> {
  const numbers = new Map((await driver.call('deviceIds', undefined)).map((id, number) => [id, number]))
  const stored = await finalEvents.all()
  return stored.map(({ device, ...event }) => ({ ...event, device: numbers.get(device) ?? -1 }))
}

async function totalsOf(rig: Rig): Promise<Map<string, Record<string, number>>> {
  const totals = new Map<string, Record<string, number>>()
  for (const project of Object.keys(rig.tokens)) totals.set(project, await apiOf(rig, project).totals())
  return totals
}

async function countsOfMissing(rig: Rig, attempts: AttemptRecord[], app: AppRecord[]): Promise<Afterwards['counts']> {
  const seen = new Set(app.map((record) => (record.type === 'gap' ? '' : `${record.attempt} ${record.device}`)))
  const ids = new Map(attempts.flatMap((r) => (r.type === 'answered' && r.id !== undefined ? [[r.attempt, r.id]] : [])))
  const missing = attempts.flatMap((record) => {
    if (record.type !== 'begun' || record.kind === 'topic' || record.kind === 'application') return []
    const id = ids.get(record.attempt)
    const isMissing = record.devices.some((device) => !seen.has(`${record.attempt} ${device}`))
    return id !== undefined && isMissing ? [{ attempt: record.attempt, project: record.project, id }] : []
  })
  const counts: Afterwards['counts'] = new Map()
  await each(missing, REQUESTS_IN_FLIGHT, async ({ attempt, project, id }) => {
    counts.set(attempt, await statusOf(rig, project, id))
  })
  return counts
}

/** The counts of a message; null if the API does not know it. */
async function statusOf(rig: Rig, project: string, id: string): Promise<Record<string, number> | null> {
  try {
    return (await apiOf(rig, project).status(id)).counts
  } catch (error) {
    if (error instanceof Error && error.message.includes(': 404 ')) return null
    throw error
  }
}
