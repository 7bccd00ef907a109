/**
 * The oracle: from what was sent, what came in and what the API counts, to a verdict. It knows the promises (design's
 * I1 to I5) and nothing of how they are kept.
 */
import type { AppRecord, Begun, Evidence } from './records.js'

export interface Verdict {
  /** Answered with 2xx. */
  accepted: number
  rejected: number
  indeterminate: number
  /** Of accepted attempts: each device of each. */
  targets: number
  lost: number
  appDuplicates: number
  phantoms: number
  /** Pushes on the wire that the device had seen, as a share of all. */
  wireDuplicateShare: number
  /** One sentence each; empty: all promises were kept. */
  violations: string[]
}

const ENDS = ['delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed'] as const
/** Violations of one kind that are told one by one. */
const TOLD_MAX = 20

type Given = Extract<AppRecord, { attempt: number }>

export function judge(evidence: Evidence): Verdict {
  const book = openBook(evidence)
  const findings = {
    lost: findLost(book),
    appDuplicates: findDuplicates(book),
    phantoms: findPhantoms(book),
    conservation: checkConservation(book),
    status: checkStatus(book),
    gaps: checkGaps(book),
    order: findDisorder(book),
  }
  const violations = Object.entries(findings).flatMap(([kind, found]) => {
    const told = found.slice(0, TOLD_MAX).map((text) => `${kind}: ${text}`)
    return found.length > TOLD_MAX ? [...told, `${kind}: ${found.length - TOLD_MAX} more`] : told
  })
  const answers = [...book.attempts.values()].map(({ answer }) => answer)
  const count = (wanted: string) => answers.filter((answer) => answer === wanted).length
  return {
    accepted: count('accepted'),
    rejected: count('rejected'),
    indeterminate: count('indeterminate'),
    targets: [...book.attempts.values()].reduce(
      (n, a) => n + (a.answer === 'accepted' ? a.begun.devices.length : 0),
      0,
    ),
    lost: findings.lost.length,
    appDuplicates: findings.appDuplicates.length,
    phantoms: findings.phantoms.length,
    wireDuplicateShare: wireDuplicateShare(evidence),
    violations,
  }
}

interface Attempt {
  begun: Begun
  answer: 'accepted' | 'rejected' | 'indeterminate'
  id: string | null
  /** Its sender asked for that. */
  cancelled: boolean
  /** What came of it, by device. */
  at: Map<number, Given[]>
}

interface Book {
  evidence: Evidence
  attempts: Map<number, Attempt>
  given: Given[]
  /** Kinds, by {@link endKey}. */
  ends: Map<string, string>
}

const endKey = (id: string, device: number) => `${id} ${device}`

function openBook(evidence: Evidence): Book {
  const attempts = new Map<number, Attempt>()
  for (const record of evidence.attempts) {
    if (record.what === 'begun') {
      // A driver that ended before the answer knows as little as one that timed out.
      attempts.set(record.attempt, {
        ...{ begun: record, answer: 'indeterminate', id: null, cancelled: false, at: new Map() },
      })
      continue
    }
    const attempt = attempts.get(record.attempt)
    if (!attempt) continue
    if (record.what === 'cancelled') attempt.cancelled = true
    else Object.assign(attempt, { answer: record.answer, id: record.id ?? null })
  }
  const given = evidence.app.filter((record): record is Given => record.what !== 'gap')
  for (const record of given) {
    const { at } = attempts.get(record.attempt) ?? { at: new Map<number, Given[]>() }
    at.set(record.device, [...(at.get(record.device) ?? []), record])
  }
  const ends = new Map(evidence.afterwards.ends.map(({ parent, device, kind }) => [endKey(parent, device), kind]))
  return { evidence, attempts, given, ends }
}

const isUnicast = ({ begun }: Attempt) => begun.kind !== 'topic' && begun.kind !== 'application'

/** I1: what was accepted is at the device, or has another end that its sender asked for or its queue's limit explains. */
function findLost(book: Book): string[] {
  const { attempts, evidence } = book
  const lost: string[] = []
  const nameless = namelessDrops(book)
  for (const [number, attempt] of attempts) {
    if (attempt.answer !== 'accepted') continue
    const { kind, devices } = attempt.begun
    for (const device of devices) {
      if (attempt.at.has(device)) continue
      const told = (why: string) => lost.push(`${kind} ${number} (id ${attempt.id}) is not at device ${device}${why}`)
      if (!isUnicast(attempt)) {
        if (!hasGroupGap(evidence, device)) told('')
      } else if (attempt.id === null) {
        // A publisher on NATS is not told the id. Its message may be among the drops that belong to no id we know.
        if (!nameless.take(device)) told(', nor is its end')
      } else {
        const end = book.ends.get(endKey(attempt.id, device))
        if (end === undefined || end === 'delivered') told(`; its end is ${end ?? 'nowhere'}`)
        else if (!mayEndAs(end, attempt, book)) told(`; it ended as ${end}, which nothing explains`)
      }
    }
  }
  return lost
}

/** Drops, by device, of messages whose id no answer named. Each excuses one message, which
 * cannot end otherwise; a drop of an attempt that was not answered excuses one as well. */
function namelessDrops({ attempts, evidence }: Book): { take(device: number): boolean } {
  const named = new Set([...attempts.values()].map(({ id }) => id))
  const left = new Map<number, number>()
  for (const { device, parent, kind } of evidence.afterwards.ends) {
    if (kind === 'dropped' && !named.has(parent)) left.set(device, (left.get(device) ?? 0) + 1)
  }
  return {
    take: (device) => {
      const count = left.get(device) ?? 0
      left.set(device, count - 1)
      return count > 0
    },
  }
}

/** Whether what was sent, and asked for since, explains an end other than `delivered`. */
function mayEndAs(end: string, attempt: Attempt, { attempts, evidence }: Book): boolean {
  const { begun, cancelled } = attempt
  if (end === 'expired') return begun.at + begun.ttlMs <= evidence.afterwards.at
  if (end === 'collapsed') return begun.collapses && isReplaced(attempt, attempts)
  if (end === 'cancelled') return cancelled
  // The device was told how many (see checkGaps). What failed had nobody to go to, and these devices stay.
  return end === 'dropped'
}

/** Something else that replaces was sent to its device, before its answer or after it. */
function isReplaced({ begun }: Attempt, attempts: Book['attempts']): boolean {
  for (const { begun: other, answer } of attempts.values()) {
    const isRival = other.attempt !== begun.attempt && other.collapses && answer !== 'rejected'
    if (isRival && begun.devices.some((device) => other.devices.includes(device))) return true
  }
  return false
}

/** What the API says of a message that is not everywhere is what EVENTS has, kind by kind. */
function checkStatus({ attempts, evidence }: Book): string[] {
  const wrong: string[] = []
  for (const [number, counts] of evidence.afterwards.counts) {
    const id = attempts.get(number)?.id
    const ends = evidence.afterwards.ends.filter(({ parent }) => parent === id)
    const differs = ENDS.some((kind) => (counts?.[kind] ?? 0) !== ends.filter((end) => end.kind === kind).length)
    if (differs) {
      const stored = ends.map(({ kind }) => kind).join(', ') || 'nothing'
      wrong.push(`of ${number} (id ${id}) the API says ${JSON.stringify(counts)}, EVENTS has ${stored}`)
    }
  }
  return wrong
}

const hasGroupGap = ({ app }: Evidence, device: number) =>
  app.some((record) => record.what === 'gap' && record.device === device && record.reason.startsWith('log_'))

/** I2, and one key one message: an app sees an attempt once, unless the device died while it showed it. */
function findDuplicates({ attempts }: Book): string[] {
  const found: string[] = []
  for (const [number, { at }] of attempts) {
    for (const [device, records] of at) {
      const extra = records.slice(1).filter(({ again }) => !again)
      for (const { id } of extra) found.push(`attempt ${number} again at device ${device} (id ${id})`)
    }
  }
  return found
}

/** I5: an app sees only what was sent to it, as it was sent. */
function findPhantoms({ attempts, given, evidence }: Book): string[] {
  const found: string[] = []
  for (const record of given) {
    const attempt = attempts.get(record.attempt)
    const wrong = attempt ? differences(attempt, record, evidence) : ['never sent']
    if (wrong.length > 0) found.push(`attempt ${record.attempt} at device ${record.device}: ${wrong.join(', ')}`)
  }
  const addressees = new Map(
    [...attempts.values()].map((a) => [a.begun.kind === 'device' ? a.id : null, a.begun.devices]),
  )
  for (const { id, device } of evidence.wire) {
    if (addressees.get(id)?.includes(device) === false) found.push(`id ${id} on the wire of device ${device}`)
  }
  return found
}

function differences(attempt: Attempt, record: Given, { members }: Evidence): string[] {
  const { begun, id } = attempt
  const wrong: string[] = []
  if (attempt.answer === 'rejected') wrong.push('was rejected')
  if (begun.hash !== record.hash) wrong.push('other content')
  if (!begun.devices.includes(record.device)) wrong.push('not meant for it')
  const member = members[record.device]
  if (member?.application !== record.application) wrong.push(`given to ${record.application}`)
  if (member?.project !== begun.project) wrong.push(`of project ${begun.project}`)
  // Each target of `devices` has an id of its own.
  if (id !== null && begun.kind !== 'devices' && id !== record.id) wrong.push(`id ${record.id} and not ${id}`)
  return wrong
}

/**
 * I4: accepted is the sum of the ends and nothing is pending; and the count is what was answered with 2xx, plus at most
 * what is indeterminate, plus at least those of them that arrived.
 */
function checkConservation({ attempts, evidence }: Book): string[] {
  const wrong: string[] = []
  for (const [project, totals] of evidence.afterwards.totals) {
    const of = (state: string) => totals[state] ?? 0
    const sum = ENDS.reduce((all, end) => all + of(end), 0)
    if (of('accepted') !== sum || of('pending') !== 0) wrong.push(`${project} counts ${JSON.stringify(totals)}`)
    let least = 0
    let most = 0
    for (const attempt of attempts.values()) {
      if (attempt.begun.project !== project || !isUnicast(attempt)) continue
      const { devices } = attempt.begun
      if (attempt.answer === 'accepted') least += devices.length
      else if (attempt.answer === 'indeterminate') least += devices.filter((device) => attempt.at.has(device)).length
      if (attempt.answer !== 'rejected') most += devices.length
    }
    if (of('accepted') < least || of('accepted') > most)
      wrong.push(`${project} accepted ${of('accepted')} targets; sent and answered were ${least} to ${most}`)
  }
  return wrong
}

/** Each device was told of exactly as many dropped messages as EVENTS says were dropped of its own. */
function checkGaps({ evidence }: Book): string[] {
  const wrong: string[] = []
  for (const device of evidence.members.keys()) {
    const gaps = evidence.app.flatMap((record) =>
      record.what === 'gap' && record.device === device && record.reason === 'queue_overflow' ? [record.count] : [],
    )
    const told = gaps.reduce((sum, count) => sum + count, 0)
    const dropped = evidence.afterwards.ends.filter((end) => end.device === device && end.kind === 'dropped').length
    if (told !== dropped) wrong.push(`device ${device} was told ${told} (${gaps.join(' + ')}), dropped were ${dropped}`)
  }
  const counted = [...evidence.afterwards.totals.values()].reduce((sum, { dropped = 0 }) => sum + dropped, 0)
  const stored = evidence.afterwards.ends.filter(({ kind }) => kind === 'dropped').length
  if (counted !== stored) wrong.push(`the API counts ${counted} dropped messages, EVENTS has ${stored}`)
  return wrong
}

/** I3: one producer's messages to one device in order, where no fault can have touched either. */
function findDisorder({ attempts, given, evidence }: Book): string[] {
  const found: string[] = []
  const latest = new Map<string, number>()
  for (const record of given) {
    const begun = attempts.get(record.attempt)?.begun
    // A repetition after a crash of the device is not a message of its own.
    if (!begun?.producer || record.again || isTouched(evidence, begun.at, record.at)) continue
    const lane = `${begun.producer} to ${record.device}`
    const before = latest.get(lane) ?? -1
    if (record.attempt < before) found.push(`${record.attempt} after ${before}, from ${lane}`)
    else latest.set(lane, record.attempt)
  }
  return found
}

const isTouched = ({ windows }: Evidence, sentAt: number, gotAt: number) =>
  windows.some(({ fromMs, untilMs }) => sentAt < untilMs && gotAt > fromMs)

function wireDuplicateShare({ wire }: Evidence): number {
  if (wire.length === 0) return 0
  const distinct = new Set(wire.map(({ device, id }) => `${device} ${id}`)).size
  return Number(((wire.length - distinct) / wire.length).toPrecision(3))
}
