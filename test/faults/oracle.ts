/**
 * The oracle of a fault run. It compares the logs of senders and devices (records.ts) with the counters of the API and
 * the final events in the store, and lists every violation of the invariants I1 to I5 (ARCHITECTURE.md). It knows the
 * invariants only, not how the product keeps them.
 */
import type { AppRecord, Begun, Evidence, FinalEvent } from './records.js'

export interface Verdict {
  /** Number of attempts that were answered with 2xx. */
  accepted: number
  rejected: number
  indeterminate: number
  /** Number of devices that the accepted attempts addressed, summed over the attempts. */
  targets: number
  /** Number of targets that have neither the push nor a final event that explains its absence (I1). */
  lost: number
  /** Number of pushes that an app saw more than once (I2). */
  appDuplicates: number
  /** Number of pushes that reached an app or a device, but were not sent to it like that (I5). */
  phantoms: number
  /** Share of the pushes on the wire that the device had received before. */
  wireDuplicateShare: number
  /** One sentence for each violation; empty if every invariant holds. */
  violations: string[]
}

const FINAL_KINDS = ['delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed'] as const
/** The verdict lists at most this many violations of one kind. */
const LISTED_MAX = 20

type Shown = Extract<AppRecord, { attempt: number }>

export function judge(evidence: Evidence): Verdict {
  const run = indexEvidence(evidence)
  const findings = {
    lost: findLost(run),
    appDuplicates: findDuplicates(run),
    phantoms: findPhantoms(run),
    conservation: checkConservation(run),
    status: checkStatus(run),
    gaps: checkGaps(run),
    order: findDisorder(run),
  }
  const violations = Object.entries(findings).flatMap(([kind, found]) => {
    const listed = found.slice(0, LISTED_MAX).map((text) => `${kind}: ${text}`)
    return found.length > LISTED_MAX ? [...listed, `${kind}: ${found.length - LISTED_MAX} more`] : listed
  })
  const answers = [...run.attempts.values()].map(({ answer }) => answer)
  const count = (wanted: string) => answers.filter((answer) => answer === wanted).length
  return {
    accepted: count('accepted'),
    rejected: count('rejected'),
    indeterminate: count('indeterminate'),
    targets: [...run.attempts.values()].reduce((n, a) => n + (a.answer === 'accepted' ? a.begun.devices.length : 0), 0),
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
  /** Its sender sent a DELETE. */
  cancelled: boolean
  /** The records of the apps about this attempt, by device. */
  shownAt: Map<number, Shown[]>
}

/** The evidence, indexed by attempt and by target. */
interface Run {
  evidence: Evidence
  attempts: Map<number, Attempt>
  shown: Shown[]
  /** The final events, by {@link targetKey}. */
  finalEvents: Map<string, FinalEvent>
}

const targetKey = (id: string, device: number) => `${id} ${device}`

function indexEvidence(evidence: Evidence): Run {
  const attempts = new Map<number, Attempt>()
  for (const record of evidence.attempts) {
    if (record.type === 'begun') {
      // If the driver was killed before the answer, the attempt is as indeterminate as one that timed out.
      attempts.set(record.attempt, {
        begun: record,
        answer: 'indeterminate',
        id: null,
        cancelled: false,
        shownAt: new Map(),
      })
      continue
    }
    const attempt = attempts.get(record.attempt)
    if (!attempt) continue
    if (record.type === 'cancelled') attempt.cancelled = true
    else Object.assign(attempt, { answer: record.answer, id: record.id ?? null })
  }
  const shown = evidence.app.filter((record): record is Shown => record.type !== 'gap')
  for (const record of shown) {
    const shownAt = attempts.get(record.attempt)?.shownAt
    shownAt?.set(record.device, [...(shownAt.get(record.device) ?? []), record])
  }
  const finalEvents = new Map(
    evidence.afterwards.finalEvents.map((event) => [targetKey(event.parent, event.device), event]),
  )
  return { evidence, attempts, shown, finalEvents }
}

/** The clocks of the driver and of nats-server may differ by this much. */
const CLOCK_DOUBT_MS = 500
/** A push with ttl 0s reaches a connected device within this time, also on a busy machine. */
const NOW_MS = 5_000

const expiresAt = ({ begun }: Attempt) => begun.at + begun.ttlMs

/**
 * True if the device was connected from before the push was sent until the push expired, and no fault may have ended a
 * connection or process meanwhile. Then the push must reach the device, however short its ttl is.
 */
function wasHere(attempt: Attempt, device: number, { presence, breaks }: Evidence): boolean {
  const { at: sentAt, ttlMs } = attempt.begun
  const fromMs = sentAt - CLOCK_DOUBT_MS
  const untilMs = sentAt + (ttlMs === 0 ? NOW_MS : ttlMs)
  if (breaks.some((window) => fromMs < window.untilMs && untilMs > window.fromMs)) return false
  const own = presence.filter((record) => record.device === device)
  const before = own.filter(({ at }) => at <= fromMs).at(-1)
  return before?.isHere === true && !own.some(({ at, isHere }) => at > fromMs && at <= untilMs && !isHere)
}

/** True if the app got the push only as expired, before its time. */
function isTreatedAsExpired(records: readonly Shown[], attempt: Attempt): boolean {
  return records.every(({ type, at }) => type === 'expired' && at < expiresAt(attempt) - CLOCK_DOUBT_MS)
}

const isUnicast = ({ begun }: Attempt) => begun.kind !== 'topic' && begun.kind !== 'application'

/**
 * I1: the app of each target saw the accepted push, or the target has another final event, which a request of the sender
 * or the limit of the queue explains.
 */
function findLost(run: Run): string[] {
  const { attempts, evidence } = run
  const lost: string[] = []
  const unnamedDrops = findUnnamedDrops(run)
  for (const [number, attempt] of attempts) {
    if (attempt.answer !== 'accepted') continue
    const { kind, devices } = attempt.begun
    for (const device of devices) {
      const records = attempt.shownAt.get(device)
      const report = (reason: string) =>
        lost.push(`${kind} ${number} (id ${attempt.id}) did not reach device ${device}: ${reason}`)
      if (records) {
        if (isTreatedAsExpired(records, attempt)) report('the device treated it as expired')
      } else if (!isUnicast(attempt)) {
        const isOver = expiresAt(attempt) <= evidence.afterwards.at && !wasHere(attempt, device, evidence)
        if (!isOver && !hasGroupGap(evidence, device)) report('the device got no GAP')
      } else if (attempt.id === null) {
        // A publisher on NATS does not learn the id, so its message may be any drop whose id no answer named.
        if (!unnamedDrops.take(device)) report('no final event explains it')
      } else {
        const end = run.finalEvents.get(targetKey(attempt.id, device))
        if (end === undefined) report('it has no final event')
        else if (end.kind === 'delivered') report('its final event is delivered')
        else if (!isExplained(end, attempt, run)) report(`it ended as ${end.kind}, which nothing explains`)
      }
    }
  }
  return lost
}

/**
 * Drops of messages whose id no answer named, by device. Each drop explains one missing push whose id is unknown. The
 * dropped message may also be of an attempt without an answer, so this check is weaker than the one by id.
 */
function findUnnamedDrops({ attempts, evidence }: Run): { take(device: number): boolean } {
  const named = new Set([...attempts.values()].map(({ id }) => id))
  const left = new Map<number, number>()
  for (const { device, parent, kind } of evidence.afterwards.finalEvents) {
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

/** True if the push or a later request of its sender explains a final event other than `delivered`. */
function isExplained({ kind, device, at }: FinalEvent, attempt: Attempt, { attempts, evidence }: Run): boolean {
  const { begun, cancelled } = attempt
  if (kind === 'expired') return at >= expiresAt(attempt) - CLOCK_DOUBT_MS && !wasHere(attempt, device, evidence)
  if (kind === 'collapsed') return begun.collapses && isReplaced(attempt, attempts)
  if (kind === 'cancelled') return cancelled
  // checkGaps compares the drops with the counts that the device was told. `failed` needs a registration that ended, and
  // none ends in a fault run.
  return kind === 'dropped'
}

/** True if another push with a collapse key was sent to one of its devices, before or after its own answer. */
function isReplaced({ begun }: Attempt, attempts: Run['attempts']): boolean {
  for (const { begun: other, answer } of attempts.values()) {
    const isRival = other.attempt !== begun.attempt && other.collapses && answer !== 'rejected'
    if (isRival && begun.devices.some((device) => other.devices.includes(device))) return true
  }
  return false
}

/** For each push that is missing at an app, the counts of the API agree with the final events in EVENTS. */
function checkStatus({ attempts, evidence }: Run): string[] {
  const wrong: string[] = []
  for (const [number, counts] of evidence.afterwards.counts) {
    if (counts === null && evidence.mayForget) continue
    const id = attempts.get(number)?.id
    const kinds = evidence.afterwards.finalEvents.filter(({ parent }) => parent === id).map(({ kind }) => kind)
    const differs = FINAL_KINDS.some((kind) => (counts?.[kind] ?? 0) !== kinds.filter((other) => other === kind).length)
    if (differs) {
      const stored = kinds.join(', ') || 'nothing'
      wrong.push(`for attempt ${number} (id ${id}) the API says ${JSON.stringify(counts)}, EVENTS has ${stored}`)
    }
  }
  return wrong
}

const hasGroupGap = ({ app }: Evidence, device: number) =>
  app.some((record) => record.type === 'gap' && record.device === device && record.reason.startsWith('log_'))

/** I2: an app sees an attempt once, also if it was published twice under one key; a marked repetition is allowed. */
function findDuplicates({ attempts }: Run): string[] {
  const found: string[] = []
  for (const [number, { shownAt }] of attempts) {
    for (const [device, records] of shownAt) {
      const extra = records.slice(1).filter(({ possibleDuplicate }) => !possibleDuplicate)
      for (const { id } of extra) found.push(`device ${device} showed attempt ${number} again (id ${id})`)
    }
  }
  return found
}

/** I5: an app sees only pushes that were sent to it, with the content that was sent. */
function findPhantoms({ attempts, shown, evidence }: Run): string[] {
  const found: string[] = []
  for (const record of shown) {
    const attempt = attempts.get(record.attempt)
    const wrong = attempt ? differences(attempt, record, evidence) : ['it was never sent']
    if (wrong.length > 0)
      found.push(`device ${record.device} showed attempt ${record.attempt}, but: ${wrong.join(', ')}`)
  }
  const addressees = new Map(
    [...attempts.values()].map((a) => [a.begun.kind === 'device' ? a.id : null, a.begun.devices]),
  )
  for (const { id, device } of evidence.wire) {
    if (addressees.get(id)?.includes(device) === false)
      found.push(`id ${id} was on the wire of device ${device}, but was not sent to it`)
  }
  return found
}

function differences(attempt: Attempt, record: Shown, { members }: Evidence): string[] {
  const { begun, id } = attempt
  const wrong: string[] = []
  if (attempt.answer === 'rejected') wrong.push('it was rejected')
  if (begun.hash !== record.hash) wrong.push('its content differs')
  if (!begun.devices.includes(record.device)) wrong.push('it was not sent to this device')
  const member = members[record.device]
  if (member?.application !== record.application) wrong.push(`it was handed to ${record.application}`)
  if (member?.project !== begun.project) wrong.push(`it is of project ${begun.project}`)
  // Each target of a push of kind `devices` has an id of its own, which the sender does not learn.
  if (id !== null && begun.kind !== 'devices' && id !== record.id) wrong.push(`its id is ${record.id}, not ${id}`)
  return wrong
}

/**
 * I4: for each project the counter `accepted` is the sum of the final kinds, and nothing is pending. `accepted` is at
 * least the number of targets that were answered with 2xx, plus those of indeterminate attempts that arrived; it is at
 * most the number of targets that were not rejected.
 */
function checkConservation({ attempts, evidence }: Run): string[] {
  const wrong: string[] = []
  for (const [project, totals] of evidence.afterwards.totals) {
    const of = (state: string) => totals[state] ?? 0
    const sum = FINAL_KINDS.reduce((all, kind) => all + of(kind), 0)
    if (of('accepted') !== sum || of('pending') !== 0)
      wrong.push(`the counters of ${project} do not add up: ${JSON.stringify(totals)}`)
    let least = 0
    let most = 0
    for (const attempt of attempts.values()) {
      if (attempt.begun.project !== project || !isUnicast(attempt)) continue
      const { devices } = attempt.begun
      if (attempt.answer === 'accepted') least += devices.length
      else if (attempt.answer === 'indeterminate')
        least += devices.filter((device) => attempt.shownAt.has(device)).length
      if (attempt.answer !== 'rejected') most += devices.length
    }
    if (of('accepted') < least || of('accepted') > most)
      wrong.push(`${project} counts ${of('accepted')} accepted targets, but the senders know of ${least} to ${most}`)
  }
  return wrong
}

/** Each device was told exactly the number of its dropped messages in EVENTS, and the API counts the same drops. */
function checkGaps({ evidence }: Run): string[] {
  const wrong: string[] = []
  for (const device of evidence.members.keys()) {
    const gaps = evidence.app.flatMap((record) =>
      record.type === 'gap' && record.device === device && record.reason === 'queue_overflow' ? [record.count] : [],
    )
    const told = gaps.reduce((sum, count) => sum + count, 0)
    const dropped = evidence.afterwards.finalEvents.filter(
      (event) => event.device === device && event.kind === 'dropped',
    ).length
    if (told !== dropped)
      wrong.push(`device ${device} was told of ${told} drops (${gaps.join(' + ')}), EVENTS has ${dropped}`)
  }
  const counted = [...evidence.afterwards.totals.values()].reduce((sum, { dropped = 0 }) => sum + dropped, 0)
  const stored = evidence.afterwards.finalEvents.filter(({ kind }) => kind === 'dropped').length
  if (counted !== stored) wrong.push(`the API counts ${counted} dropped messages, EVENTS has ${stored}`)
  return wrong
}

/** I3: an app sees the messages of one producer in order, unless a fault may have affected one of them. */
function findDisorder({ attempts, shown, evidence }: Run): string[] {
  const found: string[] = []
  const latest = new Map<string, number>()
  for (const record of shown) {
    const begun = attempts.get(record.attempt)?.begun
    // A marked repetition after a crash of the device does not count.
    if (!begun?.producer || record.possibleDuplicate || overlapsFault(evidence, begun.at, record.at)) continue
    const lane = `${begun.producer} to device ${record.device}`
    const before = latest.get(lane) ?? -1
    if (record.attempt < before) found.push(`attempt ${record.attempt} came after ${before}, from ${lane}`)
    else latest.set(lane, record.attempt)
  }
  return found
}

const overlapsFault = ({ windows }: Evidence, sentAt: number, shownAt: number) =>
  windows.some(({ fromMs, untilMs }) => sentAt < untilMs && shownAt > fromMs)

function wireDuplicateShare({ wire }: Evidence): number {
  if (wire.length === 0) return 0
  const distinct = new Set(wire.map(({ device, id }) => `${device} ${id}`)).size
  return Number(((wire.length - distinct) / wire.length).toPrecision(3))
}
