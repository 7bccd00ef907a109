/** The checkpoints of the counters: what a fold writes, and how a fold of the version before reads it. */
import { Packr, unpack } from 'msgpackr'
import t from 'tap'
import { eventsStream } from '../../protocol/subjects.js'
import { StatsFold } from '../../src/core/delivery/query/counters.js'
import type { Broker } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
import { CounterStore } from '../../src/store/counters.js'
import { EventLog } from '../../src/store/events.js'
import { SimBroker } from '../sim/broker.js'

const PROJECT = 'acme'
const CHECKPOINT_MS = 100
const APPLICATIONS = 50
const BUCKET = 'KV_COUNTERS'

function open() {
  const sim = new SimBroker({ store: { split: 1 } })
  const broker = sim.brokerFor('core')
  const events = new EventLog(broker, 1, 'test')
  let ids = BigInt(sim.clock.now() - Date.UTC(2024, 0, 1)) << 22n
  const accept = (application: string) => {
    const id = ids++
    const rest = { parent: id, project: PROJECT, application, device: 'dev', registration: 1, frame: new Uint8Array() }
    const times = { acceptedAtMs: sim.clock.now(), expiresAtMs: sim.clock.now() }
    return sim.clock.advanceUntil(events.accepted({ id, ...rest, ...times, collapseKey: '' }))
  }
  const foldOf = async (process: Broker = broker) => {
    const fold = new StatsFold({
      ...{ clock: sim.clock, log: silentLogger, events: process.log(eventsStream(0)), index: 0 },
      ...{ counters: new CounterStore(process), checkpointMs: CHECKPOINT_MS, daysMax: 62, recentMax: 1_000 },
    })
    await sim.clock.advanceUntil(fold.start())
    return fold
  }
  const countsOf = async () => {
    const stored = await sim.clock.advanceUntil(new CounterStore(broker).project(0, PROJECT))
    return new Map(stored?.rows.map(({ application, counts }) => [application, counts.accepted]))
  }
  /** The rows of each record of the project that was ever written. */
  const written = () =>
    sim.server
      .stream(BUCKET)
      .ever.filter(({ subject }) => subject.startsWith(`$KV.COUNTERS.0.${PROJECT}`))
      .map(({ body }) => ((unpack(body) as unknown[])[2] as unknown[]).length)
  return { sim, broker, accept, foldOf, countsOf, written }
}

t.test('a checkpoint writes the rows that changed, and no others', async (t) => {
  const { sim, accept, foldOf, countsOf, written } = open()
  const fold = await foldOf()
  for (let n = 0; n < APPLICATIONS; n++) await accept(`app${n}`)
  await sim.clock.advance(3 * CHECKPOINT_MS)
  const before = written().length
  for (let n = 0; n < 20; n++) {
    await accept('app7')
    await sim.clock.advance(2 * CHECKPOINT_MS)
  }
  const later = written().slice(before)
  t.equal(later.length, 20)
  // Rows that changed since the last base, at most all of those that changed in the first moments.
  await sim.clock.advance(120_000)
  await accept('app7')
  await sim.clock.advance(3 * CHECKPOINT_MS)
  await accept('app7')
  await sim.clock.advance(3 * CHECKPOINT_MS)
  t.equal(written().at(-2), APPLICATIONS, 'now and then all rows')
  t.equal(written().at(-1), 1, 'otherwise the row that changed')
  t.equal((await countsOf()).get('app7'), 23)
  t.equal((await countsOf()).size, APPLICATIONS)
  await sim.clock.advanceUntil(fold.stop())
})

t.test('a fold that takes over counts each event once, wherever the one before stopped', async (t) => {
  const { sim, accept, foldOf, countsOf } = open()
  let sent = 0
  for (let round = 0; round < 12; round++) {
    const process = sim.brokerFor(`core-${round}`)
    const fold = await foldOf(process)
    for (let n = 0; n < 5; n++, sent++) {
      await accept(`app${n}`)
      await sim.clock.advance((round * 37) % 250)
    }
    if (round % 3 === 0) await sim.clock.advanceUntil(fold.stop())
    else process.crash()
  }
  const last = await foldOf()
  await sim.clock.advance(3 * CHECKPOINT_MS)
  const counts = await countsOf()
  t.equal(
    [...counts.values()].reduce((sum, count) => sum + count, 0),
    sent,
  )
  await sim.clock.advanceUntil(last.stop())
})

t.test('a fold of the version before continues from the bases, and what it writes replaces the changes', async (t) => {
  const { sim, broker, accept, foldOf, countsOf } = open()
  const process = sim.brokerFor('newer')
  await foldOf(process)
  for (let n = 0; n < 10; n++) {
    await accept('app0')
    await sim.clock.advance(2 * CHECKPOINT_MS)
  }
  process.crash()
  t.equal((await countsOf()).get('app0'), 10, 'bases and changes together')

  // As src/store/counters.ts of the version before reads and writes.
  const table = broker.table('COUNTERS')
  const position = await sim.clock.advanceUntil(table.get('0'))
  const base = await sim.clock.advanceUntil(table.get(`0.${PROJECT}`))
  const from = (unpack(position?.value ?? new Uint8Array()) as number[])[1] ?? 0
  const [version, , rows, recent] = unpack(base?.value ?? new Uint8Array()) as [
    number,
    number,
    (string | number)[][],
    unknown,
  ]
  const log = broker.log(eventsStream(0))
  const { lastSequence } = await sim.clock.advanceUntil(log.state())
  const row = rows[0] ?? []
  row[2] = Number(row[2]) + (lastSequence - from)
  const packr = new Packr({ useRecords: false })
  const older = packr.pack([version, lastSequence, rows, recent])
  await sim.clock.advanceUntil(table.put(`0.${PROJECT}`, older, base?.revision ?? 0))
  await sim.clock.advanceUntil(table.put('0', packr.pack([version, lastSequence]), position?.revision ?? 0))

  t.equal((await countsOf()).get('app0'), 10, 'the changes mean nothing any more')
  const fold = await foldOf()
  await accept('app0')
  await sim.clock.advance(3 * CHECKPOINT_MS)
  t.equal((await countsOf()).get('app0'), 11)
  await sim.clock.advanceUntil(fold.stop())
})
