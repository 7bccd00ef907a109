/** Tests of the oracle: each violation of an invariant is found, and each permitted irregularity is not reported. */
import t from 'tap'
import { judge } from './oracle.js'
import type { AttemptRecord, Evidence } from './records.js'

const PROJECT = { project: 'p', application: 'app_p' }
const TTL_MS = 10_000
const OTHER = { project: 'q', application: 'app_q' }

/**
 * The logs of a run without a violation: two pushes of one producer to device 0, and one to a group of devices 0 and 1.
 * All were accepted and shown. Device 2 is of another project.
 */
function faultlessRun(): Evidence {
  const attempts: AttemptRecord[] = [1, 2].flatMap((attempt) => begun(attempt, 'device', [0]))
  attempts.push(...begun(3, 'topic', [0, 1]))
  const app = [shown(1, 0), shown(2, 0), shown(3, 0), shown(3, 1)]
  const wire = app.map(({ device, id, attempt }) => ({ at: 5, device, id, group: attempt === 3 }))
  const totals = new Map([['p', { accepted: 2, delivered: 2 }]])
  const members = [PROJECT, PROJECT, OTHER]
  const afterwards = { at: 1_000, counts: new Map(), totals, finalEvents: [] }
  const rest = { windows: [], breaks: [], presence: [], mayForget: false }
  return { attempts, app, wire, members, ...rest, afterwards }
}

function begun(attempt: number, kind: 'device' | 'devices' | 'topic', devices: number[]): AttemptRecord[] {
  return [
    {
      ...{ type: 'begun', at: attempt, attempt, kind, project: 'p', devices, ttlMs: TTL_MS, collapses: false },
      hash: `hash ${attempt}`,
      producer: kind === 'device' ? 'one' : null,
    },
    { type: 'answered', at: attempt, attempt, answer: 'accepted', id: `id ${attempt}` },
  ]
}

function shown(attempt: number, device: number) {
  const [id, hash] = [`id ${attempt}`, `hash ${attempt}`]
  const application = 'app_p'
  return { type: 'shown', at: 10 + attempt, device, id, attempt, application, hash, possibleDuplicate: false } as const
}

function setAnswer(evidence: Evidence, attempt: number, answer: 'rejected' | 'indeterminate'): void {
  const record = evidence.attempts.find((r) => r.attempt === attempt && r.type === 'answered')
  if (record?.type === 'answered') record.answer = answer
}

/** A publisher on NATS gets an answer without an id. */
function removeId(evidence: Evidence, attempt: number): void {
  for (const record of evidence.attempts) if (record.attempt === attempt && record.type === 'answered') delete record.id
}

/** Removes the record that device 0 showed attempt 1. */
function removeFirstShown(evidence: Evidence): void {
  evidence.app.splice(0, 1)
}

/** Gives attempt 1 this final event. */
function endFirstAs(evidence: Evidence, kind: string): void {
  evidence.afterwards.finalEvents.push({ device: 0, parent: 'id 1', kind, at: 5 })
  evidence.afterwards.totals.set(
    'p',
    kind === 'delivered' ? { accepted: 2, delivered: 2 } : { accepted: 2, delivered: 1, [kind]: 1 },
  )
}

const connected = (device: number) => ({ at: -TTL_MS, device, isHere: true })

/** Gives all pushes ttl 0s. */
function setForNow({ attempts, afterwards }: Evidence): void {
  for (const record of attempts) if (record.type === 'begun') record.ttlMs = 0
  afterwards.at += TTL_MS
}

/** Attempt 1 had ttl 0s and expired. */
function expireForNow(evidence: Evidence): void {
  removeFirstShown(evidence)
  endFirstAs(evidence, 'expired')
  setForNow(evidence)
}

const gap = (device: number, count: number) =>
  ({ type: 'gap', at: 1, device, count, reason: 'queue_overflow' }) as const

t.test('a run without a violation gets none', async (t) => {
  t.match(judge(faultlessRun()), { violations: [], accepted: 3, targets: 4, lost: 0, wireDuplicateShare: 0 })
})

const violatingChanges: Record<string, { change(evidence: Evidence): void; violation: RegExp }> = {
  'an accepted push without final event and not shown is lost': {
    change: removeFirstShown,
    violation: /^lost: device 1 .*it has no final event/,
  },
  'a push with the event delivered that was not shown is lost': {
    change: (e) => {
      removeFirstShown(e)
      endFirstAs(e, 'delivered')
    },
    violation: /^lost: device 1 .*its final event is delivered/,
  },
  ...Object.fromEntries(
    ['expired', 'collapsed', 'cancelled', 'failed'].map((kind) => [
      `a push that ended as ${kind} without a request of its sender is lost`,
      {
        change: (e: Evidence) => {
          removeFirstShown(e)
          endFirstAs(e, kind)
        },
        violation: new RegExp(`^lost: device 1 .*it ended as ${kind}, which nothing explains`),
      },
    ]),
  ),
  'a push that was collapsed without a push that replaces it is lost': {
    change: (e) => {
      removeFirstShown(e)
      endFirstAs(e, 'collapsed')
      const [first] = e.attempts
      if (first?.type === 'begun') first.collapses = true
    },
    violation: /^lost: device 1 .*it ended as collapsed, which nothing explains/,
  },
  'a status of the API that differs from EVENTS is reported': {
    change: (e) => {
      removeFirstShown(e)
      e.app.push(gap(0, 1))
      endFirstAs(e, 'dropped')
      e.afterwards.counts.set(1, { accepted: 1, expired: 1 })
    },
    violation: /^status: for attempt 1 .*expired.* EVENTS has dropped/,
  },
  'a push that the API does not know is reported': {
    change: (e) => {
      removeFirstShown(e)
      e.app.push(gap(0, 1))
      endFirstAs(e, 'dropped')
      e.afterwards.counts.set(1, null)
    },
    violation: /^status: for attempt 1 .*the API says null/,
  },
  'a group message that one member did not get is lost': {
    change: (e) => void e.app.splice(3, 1),
    violation: /^lost: topic 3/,
  },
  'a push that was shown twice is a duplicate': {
    change: (e) => void e.app.push(shown(1, 0)),
    violation: /^appDuplicates: device 0 showed attempt 1 again/,
  },
  'a push that was shown under two ids is a duplicate': {
    change: (e) => void e.app.push({ ...shown(1, 0), id: 'another' }),
    violation: /^appDuplicates: device 0 showed attempt 1 again/,
  },
  'a push with other content is a phantom': {
    change: (e) => void e.app.splice(0, 1, { ...shown(1, 0), hash: 'x' }),
    violation: /^phantoms: device 0 showed attempt 1, but: its content differs/,
  },
  'a push at another device is a phantom': {
    change: (e) => void e.app.push(shown(1, 1)),
    violation: /^phantoms: device 1 showed attempt 1/,
  },
  'a push at an application of another project is a phantom': {
    change: (e) => void e.app.push({ ...shown(3, 2), application: 'app_q' }),
    violation: /^phantoms: device 2 showed attempt 3/,
  },
  'a push that was never sent is a phantom': {
    change: (e) => void e.app.push(shown(9, 0)),
    violation: /^phantoms: device 0 showed attempt 9, but: it was never sent/,
  },
  'a push that was rejected and shown is a phantom': {
    change: (e) => setAnswer(e, 2, 'rejected'),
    violation: /^phantoms: device 0 showed attempt 2, but: it was rejected/,
  },
  'an id on the wire of another device is a phantom': {
    change: (e) => void e.wire.push({ at: 1, device: 1, id: 'id 1', group: false }),
    violation: /^phantoms: id id 1 was on the wire/,
  },
  'a target without a counted final event violates conservation': {
    change: (e) => void e.afterwards.totals.set('p', { accepted: 2, delivered: 1 }),
    violation: /^conservation: the counters of p do not add up/,
  },
  'a counter above the number of sent targets violates conservation': {
    change: (e) => void e.afterwards.totals.set('p', { accepted: 3, delivered: 3 }),
    violation: /^conservation: p counts 3 accepted/,
  },
  'a drop of which the device was not told is reported': {
    change: (e) => endFirstAs(e, 'dropped'),
    violation: /^gaps: device 0 was told of 0 drops .*EVENTS has 1/,
  },
  'a drop of which another device was told is reported': {
    change: (e) => {
      endFirstAs(e, 'dropped')
      e.app.push(gap(1, 1))
    },
    violation: /^gaps: device 1 was told of 1 drops .*EVENTS has 0/,
  },
  'a drop of which the device was told twice is reported': {
    change: (e) => {
      endFirstAs(e, 'dropped')
      e.app.push(gap(0, 1), gap(0, 1))
    },
    violation: /^gaps: device 0 was told of 2 drops/,
  },
  'a counted drop without a final event is reported': {
    change: (e) => void e.afterwards.totals.set('p', { accepted: 2, delivered: 1, dropped: 1 }),
    violation: /^gaps: the API counts 1 dropped messages, EVENTS has 0/,
  },
  'a push of a NATS publisher that was not shown and has no drop is lost': {
    change: (e) => {
      removeId(e, 1)
      removeFirstShown(e)
    },
    violation: /^lost: device 1 .*no final event explains it/,
  },
  'a push of a NATS publisher that expired before its time is lost': {
    change: (e) => {
      removeId(e, 1)
      removeFirstShown(e)
      endFirstAs(e, 'expired')
    },
    violation: /^lost: device 1 .*no final event explains it/,
  },
  'a push that expired before its time is lost, even if its time is over when the run ends': {
    change: (e) => {
      removeFirstShown(e)
      endFirstAs(e, 'expired')
      e.afterwards.at += 10 * TTL_MS
    },
    violation: /^lost: device 1 .*it ended as expired, which nothing explains/,
  },
  'a push that its device treated as expired before its time is lost': {
    change: (e) => void e.app.splice(0, 1, { ...shown(1, 0), type: 'expired' }),
    violation: /^lost: device 1 .*treated it as expired/,
  },
  'a push with ttl 0s that expired beside a connected device is lost': {
    change: (e) => {
      expireForNow(e)
      e.presence.push(connected(0))
    },
    violation: /^lost: device 1 .*it ended as expired, which nothing explains/,
  },
  'a group message with ttl 0s that a connected device did not get is lost': {
    change: (e) => {
      e.app.splice(3, 1)
      e.presence.push(connected(1))
      setForNow(e)
    },
    violation: /^lost: topic 3/,
  },
  'a later push that was shown before an earlier one violates the order': {
    change: (e) => void e.app.reverse(),
    violation: /^order: attempt 1 came after 2/,
  },
}

for (const [name, { change, violation }] of Object.entries(violatingChanges)) {
  t.test(name, async (t) => {
    const evidence = faultlessRun()
    change(evidence)
    t.ok(
      judge(evidence).violations.some((text) => violation.test(text)),
      JSON.stringify(judge(evidence).violations),
    )
  })
}

const permittedChanges: Record<string, (evidence: Evidence) => void> = {
  'a drop that the device was told of is no violation': (e) => {
    removeFirstShown(e)
    e.app.push(gap(0, 1))
    endFirstAs(e, 'dropped')
    e.afterwards.counts.set(1, { accepted: 1, dropped: 1 })
  },
  'a drop of a push without a known id is no violation': (e) => {
    removeFirstShown(e)
    e.app.push(gap(0, 1))
    endFirstAs(e, 'dropped')
    removeId(e, 1)
  },
  'a push that expired after its time to live is not lost': (e) => {
    removeFirstShown(e)
    endFirstAs(e, 'expired')
    for (const event of e.afterwards.finalEvents) event.at += TTL_MS
  },
  'a push with ttl 0s to a device that was not connected is not lost': expireForNow,
  'a push with ttl 0s to a device that disconnected soon after is not lost': (e) => {
    expireForNow(e)
    e.presence.push(connected(0), { at: 500, device: 0, isHere: false })
  },
  'a push with ttl 0s to a device that has just connected is not lost': (e) => {
    expireForNow(e)
    e.presence.push({ ...connected(0), at: 0 })
  },
  'a push with ttl 0s to a connected device is not lost if a fault may have broken its connection': (e) => {
    expireForNow(e)
    e.presence.push(connected(0))
    e.breaks.push({ fromMs: 400, untilMs: 600 })
  },
  'a push that another one with a collapse key replaced is not lost': (e) => {
    removeFirstShown(e)
    endFirstAs(e, 'collapsed')
    for (const record of e.attempts) if (record.type === 'begun') record.collapses = true
  },
  'a push that its sender cancelled is not lost': (e) => {
    removeFirstShown(e)
    endFirstAs(e, 'cancelled')
    e.attempts.push({ type: 'cancelled', at: 2, attempt: 1 })
  },
  'an indeterminate push that was not stored is not lost': (e) => {
    setAnswer(e, 1, 'indeterminate')
    removeFirstShown(e)
    e.afterwards.totals.set('p', { accepted: 1, delivered: 1 })
  },
  'an indeterminate push that was stored and shown is no phantom': (e) => {
    setAnswer(e, 1, 'indeterminate')
    e.afterwards.totals.set('p', { accepted: 2, delivered: 2 })
  },
  'a repetition that is marked as a possible duplicate is no duplicate': (e) =>
    void e.app.push({ ...shown(1, 0), possibleDuplicate: true }),
  'another order during a fault is no violation': (e) => {
    e.app.reverse()
    e.windows = [{ fromMs: 0, untilMs: 100 }]
  },
}

for (const [name, change] of Object.entries(permittedChanges)) {
  t.test(name, async (t) => {
    const evidence = faultlessRun()
    change(evidence)
    t.same(judge(evidence).violations, [])
  })
}

t.test('a duplicate on the wire counts in wireDuplicateShare and is no violation', async (t) => {
  const evidence = faultlessRun()
  evidence.wire.push({ at: 6, device: 0, id: 'id 1', group: false })
  t.match(judge(evidence), { violations: [], wireDuplicateShare: 0.2 })
})
