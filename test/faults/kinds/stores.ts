/** The loss of the session table. */
import { Bucket } from '../../../protocol/subjects.js'
import { type Fault, nothingToHeal } from '../fault.js'

const TIMEOUT_MS = 5_000

export const sessionsLost: Fault = {
  name: 'sessions-lost',
  summary: 'the session table is lost',
  // The audit restores the sessions. Its default interval of five minutes would make a run too long.
  settings: { transport: { auditMs: 5_000 } },
  inject: async ({ admin }) => {
    const subject = `$JS.API.STREAM.PURGE.KV_${Bucket.SESSIONS}`
    const answer = await admin.bus.request(subject, Buffer.from('{}'), { timeoutMs: TIMEOUT_MS })
    const read = JSON.parse(Buffer.from(answer).toString('utf8')) as { purged: number; error?: { description: string } }
    if (read.error) throw new Error(`${subject}: ${read.error.description}`)
    return { description: `${read.purged} session records are deleted`, durationMs: 0, heal: nothingToHeal }
  },
}
