import t from 'tap'
import { judge } from './oracle.js'
import type { AttemptRecord, Evidence } from './records.js'

const PROJECT = { project: 'p', application: 'app_p' }
const TTL_MS = 10_000
const OTHER = { project: 'q', application: 'app_q' }

/** Two pushes of one producer to device 0, accepted and given; one to a group of devices 0 and 1, given to both. */
function sound(): Evidence {
  const attempts: AttemptRecord[] = [1, 2].flatMap((attempt) => begun(attempt, 'device', [0]))
  attempts.push(...begun(3, 'topic', [0, 1]))
  const app = [given(1, 0), given(2, 0), given(3, 0), given(3, 1)]
  const wire = app.map(({ device, id, attempt }) => ({ at: 5, device, id, group: attempt === 3 }))
  const totals = new Map([['p', { accepted: 2, delivered: 2 }]])
  const members = [PROJECT, PROJECT, OTHER]
  return { attempts, app, wire, members, windows: [], afterwards: { at: 1_000, counts: new Map(), totals, ends: [] } }
}

function begun(attempt: number, kind: 'device' | 'devices' | 'topic', devices: number[]): AttemptRecord[] {
  const hash = `hash ${attempt}`
  const producer = kind === 'device' ? 'one' : null
  return [
    {
      ...{ what: 'begun', at: attempt, attempt, kind, project: 'p', devices },
      ttlMs: TTL_MS,
      collapses: false,
      hash,
      producer,
    },
    { what: 'answered', at: attempt, attempt, answer: 'accepted', id: `id ${attempt}` },
  ]
}

function given(attempt: number, device: number) {
  const [id, hash] = [`id ${attempt}`, `hash ${attempt}`]
  return { what: 'given', at: 10 + attempt, device, id, attempt, application: 'app_p', hash, again: false } as const
}

function answer(evidence: Evidence, attempt: number, as: 'rejected' | 'indeterminate'): void {
  const record = evidence.attempts.find((r) => r.attempt === attempt && r.what === 'answered')
  if (record?.what === 'answered') record.answer = as
}

function forget(evidence: Evidence, index: number): void {
  evidence.app.splice(index, 1)
}

/** The first push ended so. */
function ended(evidence: Evidence, kind: string, device = 0): void {
  evidence.afterwards.ends.push({ device, parent: 'id 1', kind })
  evidence.afterwards.totals.set(
    'p',
    kind === 'delivered' ? { accepted: 2, delivered: 2 } : { accepted: 2, delivered: 1, [kind]: 1 },
  )
}

const gap = (device: number, count: number) =>
  ({ what: 'gap', at: 1, device, count, reason: 'queue_overflow' }) as const

/** As a publisher on NATS is answered: without an id. */
function nameless(evidence: Evidence, attempt: number): void {
  for (const record of evidence.attempts) if (record.attempt === attempt && record.what === 'answered') delete record.id
}

t.test('what is sound is found sound', async (t) => {
  t.match(judge(sound()), { violations: [], accepted: 3, targets: 4, lost: 0, wireDuplicateShare: 0 })
})

const breaks: Record<string, { do(evidence: Evidence): void; found: RegExp }> = {
  'a push that is nowhere': { do: (e) => forget(e, 0), found: /^lost: device 1 / },
  'a push that is delivered and not at the app': {
    do: (e) => {
      forget(e, 0)
      ended(e, 'delivered')
    },
    found: /^lost: device 1 .*its end is delivered/,
  },
  ...Object.fromEntries(
    ['expired', 'collapsed', 'cancelled', 'failed'].map((kind) => [
      `a push that ended as ${kind}, and nobody asked for it`,
      {
        do: (e: Evidence) => {
          forget(e, 0)
          ended(e, kind)
        },
        found: new RegExp(`^lost: device 1 .*it ended as ${kind}, which nothing explains`),
      },
    ]),
  ),
  'a push that was collapsed, and nothing replaces it': {
    do: (e) => {
      forget(e, 0)
      ended(e, 'collapsed')
      const [first] = e.attempts
      if (first?.what === 'begun') first.collapses = true
    },
    found: /^lost: device 1 .*it ended as collapsed, which nothing explains/,
  },
  'an API that says another end': {
    do: (e) => {
      forget(e, 0)
      e.app.push(gap(0, 1))
      ended(e, 'dropped')
      e.afterwards.counts.set(1, { accepted: 1, expired: 1 })
    },
    found: /^status: of 1 .*expired.* EVENTS has dropped/,
  },
  'an API that knows nothing of it': {
    do: (e) => {
      forget(e, 0)
      e.app.push(gap(0, 1))
      ended(e, 'dropped')
      e.afterwards.counts.set(1, null)
    },
    found: /^status: of 1 .*the API says null/,
  },
  'a group message that one member did not get': {
    do: (e) => forget(e, 3),
    found: /^lost: topic 3/,
  },
  'a push given twice': { do: (e) => void e.app.push(given(1, 0)), found: /^appDuplicates: attempt 1/ },
  'one key that made two messages': {
    do: (e) => void e.app.push({ ...given(1, 0), id: 'another' }),
    found: /^appDuplicates: attempt 1/,
  },
  'other content': {
    do: (e) => void e.app.splice(0, 1, { ...given(1, 0), hash: 'x' }),
    found: /^phantoms: attempt 1 .*other content/,
  },
  'another device': { do: (e) => void e.app.push(given(1, 1)), found: /^phantoms: attempt 1 at device 1/ },
  'another project': {
    do: (e) => void e.app.push({ ...given(3, 2), application: 'app_q' }),
    found: /^phantoms: attempt 3 at device 2/,
  },
  'a push that nobody sent': { do: (e) => void e.app.push(given(9, 0)), found: /^phantoms: attempt 9 .*never sent/ },
  'a push that was rejected': { do: (e) => answer(e, 2, 'rejected'), found: /^phantoms: attempt 2 .*rejected/ },
  'an id on the wire of another device': {
    do: (e) => void e.wire.push({ at: 1, device: 1, id: 'id 1', group: false }),
    found: /^phantoms: id id 1 on the wire/,
  },
  'an end that is not counted': {
    do: (e) => void e.afterwards.totals.set('p', { accepted: 2, delivered: 1 }),
    found: /^conservation: p counts/,
  },
  'more targets than were sent': {
    do: (e) => void e.afterwards.totals.set('p', { accepted: 3, delivered: 3 }),
    found: /^conservation: p accepted 3/,
  },
  'drops that the device was not told of': {
    do: (e) => ended(e, 'dropped'),
    found: /^gaps: device 0 was told 0 .*dropped were 1/,
  },
  'a drop that another device was told of': {
    do: (e) => {
      ended(e, 'dropped')
      e.app.push(gap(1, 1))
    },
    found: /^gaps: device 1 was told 1 .*dropped were 0/,
  },
  'a drop that is told twice': {
    do: (e) => {
      ended(e, 'dropped')
      e.app.push(gap(0, 1), gap(0, 1))
    },
    found: /^gaps: device 0 was told 2/,
  },
  'a drop that is counted and is not there': {
    do: (e) => void e.afterwards.totals.set('p', { accepted: 2, delivered: 1, dropped: 1 }),
    found: /^gaps: the API counts 1 dropped messages, EVENTS has 0/,
  },
  'a push of a publisher that has no end anywhere': {
    do: (e) => {
      nameless(e, 1)
      forget(e, 0)
    },
    found: /^lost: device 1 .*nor is its end/,
  },
  'a push of a publisher that expired before its time': {
    do: (e) => {
      nameless(e, 1)
      forget(e, 0)
      ended(e, 'expired')
    },
    found: /^lost: device 1 .*nor is its end/,
  },
  'a later push before an earlier one': { do: (e) => void e.app.reverse(), found: /^order: 1 after 2/ },
}

for (const [name, { do: breakIt, found }] of Object.entries(breaks)) {
  t.test(`finds ${name}`, async (t) => {
    const evidence = sound()
    breakIt(evidence)
    t.ok(
      judge(evidence).violations.some((violation) => found.test(violation)),
      JSON.stringify(judge(evidence).violations),
    )
  })
}

t.test('what is excused: another end, an indeterminate answer, a marked repetition, order under a fault', async (t) => {
  for (const isNamed of [true, false]) {
    const overflow = sound()
    forget(overflow, 0)
    overflow.app.push(gap(0, 1))
    ended(overflow, 'dropped')
    if (isNamed) overflow.afterwards.counts.set(1, { accepted: 1, dropped: 1 })
    else nameless(overflow, 1)
    t.same(judge(overflow).violations, [])
  }

  const asked: Record<string, (evidence: Evidence) => void> = {
    expired: (evidence) => {
      evidence.afterwards.at += TTL_MS
    },
    collapsed: ({ attempts }) => {
      for (const record of attempts) if (record.what === 'begun') record.collapses = true
    },
    cancelled: ({ attempts }) => void attempts.push({ what: 'cancelled', at: 2, attempt: 1 }),
  }
  for (const [kind, ask] of Object.entries(asked)) {
    const evidence = sound()
    forget(evidence, 0)
    ended(evidence, kind)
    ask(evidence)
    t.same(judge(evidence).violations, [])
  }

  for (const stored of [0, 1]) {
    const unknown = sound()
    answer(unknown, 1, 'indeterminate')
    if (stored === 0) forget(unknown, 0)
    unknown.afterwards.totals.set('p', { accepted: 1 + stored, delivered: 1 + stored })
    t.same(judge(unknown).violations, [])
  }

  const again = sound()
  again.app.push({ ...given(1, 0), again: true })
  t.same(judge(again).violations, [])

  const disturbed = sound()
  disturbed.app.reverse()
  disturbed.windows = [{ fromMs: 0, untilMs: 100 }]
  t.same(judge(disturbed).violations, [])
})

t.test('duplicates on the wire are a share, not a violation', async (t) => {
  const evidence = sound()
  evidence.wire.push({ at: 6, device: 0, id: 'id 1', group: false })
  t.match(judge(evidence), { violations: [], wireDuplicateShare: 0.2 })
})
