/** What the API says once everything is quiet: counters of the projects, and the end of what is not at an app. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Api, each } from '../../bench/demo/api.js'
import { INGRESS_STREAM, messagesStream } from '../../protocol/subjects.js'
import { readEnds } from './ends.js'
import type { Afterwards, AppRecord, AttemptRecord, End } from './records.js'
import type { Rig } from './rig.js'

const EVERY_MS = 500
const WIDTH = 8

const apiOf = ({ system, tokens }: Rig, project: string) => new Api(system.httpUrl, project, tokens[project] ?? '')

/** Waits until all publishers' records are taken and every target has its end, or the time is up. Gives what is pending then. */
export async function nothingPending(rig: Rig, timeoutMs: number): Promise<number> {
  const until = Date.now() + timeoutMs
  for (;;) {
    const totals = await totalsOf(rig)
    let pending = await stillStored(rig)
    for (const total of totals.values()) pending += total.pending ?? 0
    if (pending === 0 || Date.now() > until) return pending
    await sleep(EVERY_MS)
  }
}

/** Records of publishers that nobody took, and of messages that were stored and not acknowledged, counted by the API or not. */
async function stillStored({ admin, system }: Rig): Promise<number> {
  const messages = Array.from({ length: system.config.store.split }, (_, index) => messagesStream(index))
  const states = await Promise.all([INGRESS_STREAM, ...messages].map((stream) => admin.log(stream).state()))
  return states.reduce((sum, state) => sum + state.messages, 0)
}

export async function lookAfterwards(rig: Rig, attempts: AttemptRecord[], app: AppRecord[]): Promise<Afterwards> {
  const counts = await countsOfMissing(rig, attempts, app)
  const totals = await totalsOf(rig)
  return { at: Date.now(), counts, totals, ends: await endsOf(rig) }
}

async function endsOf({ admin, driver, system }: Rig): Promise<End[]> {
  const numbers = new Map((await driver.call('deviceIds', undefined)).map((id, number) => [id, number]))
  const ends = await readEnds(admin, system.config.store.split)
  return ends.map(({ device, ...end }) => ({ ...end, device: numbers.get(device) ?? -1 }))
}

async function totalsOf(rig: Rig): Promise<Map<string, Record<string, number>>> {
  const totals = new Map<string, Record<string, number>>()
  for (const project of Object.keys(rig.tokens)) totals.set(project, await apiOf(rig, project).totals())
  return totals
}

async function countsOfMissing(rig: Rig, attempts: AttemptRecord[], app: AppRecord[]): Promise<Afterwards['counts']> {
  const seen = new Set(app.map((record) => (record.what === 'gap' ? '' : `${record.attempt} ${record.device}`)))
  const ids = new Map(attempts.flatMap((r) => (r.what === 'answered' && r.id !== undefined ? [[r.attempt, r.id]] : [])))
  const open = attempts.flatMap((record) => {
    if (record.what !== 'begun' || record.kind === 'topic' || record.kind === 'application') return []
    const id = ids.get(record.attempt)
    const missing = record.devices.some((device) => !seen.has(`${record.attempt} ${device}`))
    return id !== undefined && missing ? [{ attempt: record.attempt, project: record.project, id }] : []
  })
  const counts: Afterwards['counts'] = new Map()
  await each(open, WIDTH, async ({ attempt, project, id }) => {
    counts.set(attempt, await statusOf(rig, project, id))
  })
  return counts
}

/** Null: the API does not know the message. */
async function statusOf(rig: Rig, project: string, id: string): Promise<Record<string, number> | null> {
  try {
    return (await apiOf(rig, project).status(id)).counts
  } catch (error) {
    if (error instanceof Error && error.message.includes(': 404 ')) return null
    throw error
  }
}
