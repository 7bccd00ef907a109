/** Publishing outcomes to app servers, on virtual time: the published events, the conditions, and crashes in between. */
import { strict as assert } from 'node:assert'
import t from 'tap'
import type { StoredMessage } from '../../protocol/envelope.js'
import { OUTCOME_EVENTS_STREAM } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import { CoreMetrics } from '../../src/core/metrics.js'
import { decodeOutcomeEvent } from '../../src/core/outcomes/outcome-event.js'
import { startFeeds } from '../../src/core/outcomes/outcomes.js'
import { Keyring } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
import type { Stoppable } from '../../src/stop-stack.js'
import { EventLog, type FinalKind } from '../../src/store/events.js'
import { FeedStates, openFeeds } from '../../src/store/feeds.js'
import type { SimClient } from '../sim/client.js'
import { APPLICATION, deviceName, eventually, PROJECT, quickSettings } from '../support/core.js'
import { SIM_SPLIT, SimInstallation } from '../support/sim-core.js'
import { quickWebhooks } from '../support/webhooks.js'

const PARENT = 9_000n

class OutcomesWorld extends SimInstallation {
  readonly metrics = new CoreMetrics()
  readonly observer = this.sim.brokerFor('observer')
  readonly events = new EventLog(this.observer, SIM_SPLIT, 'test')
  private starts = 0

  async start(
    settings: Partial<typeof quickSettings> = {},
    arrange: (process: SimClient) => void = () => {},
  ): Promise<{ process: SimClient; part: Stoppable }> {
    const process = this.sim.brokerFor(`feeds-${++this.starts}`)
    arrange(process)
    const starting = startFeeds({
      ...{ broker: process, clock: process.clock, random: this.sim.random, split: SIM_SPLIT, log: silentLogger },
      ...{ settings: { ...quickSettings, leaseMs: 200, ...settings }, webhooks: quickWebhooks, metrics: this.metrics },
      registrationIdOf: ({ device, registration }) => `${device}/${registration}`,
      secrets: Keyring.generate(0).secretsKeys,
    })
    const [started] = await this.advanceUntil(Promise.allSettled([starting]))
    // A part does not start if the store leaves a request of the start unanswered. The process manager starts it again.
    return started.status === 'fulfilled' ? { process, part: started.value } : this.start(settings, arrange)
  }

  /** Turns the outcome feed of a project on, as the admin API does. */
  async turnFeedOn(project = PROJECT): Promise<void> {
    const { lastSequence } = await this.advanceUntil(this.observer.log('EVENTS_0').state())
    const [createdAtMs, updatedAtMs] = [0, 0]
    const feed = { v: 1, id: project, since: [lastSequence], webhook: null, createdAtMs, updatedAtMs } as const
    await this.advanceUntil(openFeeds(this.observer).create({ ...feed, since: [...feed.since] }))
  }

  async recordEnd(id: bigint, kind: FinalKind = 'delivered', project = PROJECT, reason = ''): Promise<void> {
    const device = deviceName(Number(id))
    const at = { project, application: APPLICATION, device }
    const stored = { id, parent: PARENT + id, ...at, registration: 1, acceptedAtMs: 1, expiresAtMs: 2 }
    await this.advanceUntil(this.events.accepted(stored as unknown as StoredMessage))
    await this.advanceUntil(this.events.final(id, { kind, atMs: 1_000 + Number(id), ...at, reason }))
  }

  /** The events published so far, as they were stored. */
  async published(): Promise<ReturnType<typeof decodeOutcomeEvent>[]> {
    const log = this.observer.log(OUTCOME_EVENTS_STREAM)
    const all: ReturnType<typeof decodeOutcomeEvent>[] = []
    for (let record = await this.advanceUntil(log.next('>', 1)); record; ) {
      const event = decodeOutcomeEvent(record.body)
      assert.equal(record.subject, `push.event.${event.projectId}.${event.kind}`)
      all.push(event)
      record = await this.advanceUntil(log.next('>', record.sequence + 1))
    }
    return all
  }

  async untilPublished(count: number): Promise<ReturnType<typeof decodeOutcomeEvent>[]> {
    const published = this.observer.log(OUTCOME_EVENTS_STREAM)
    const enough = async () => ((await published.state()).messages >= count ? true : null)
    await this.advanceUntil(eventually(this.sim.clock, `${count} events`, enough))
    return this.published()
  }
}

t.test('each final event after a feed is turned on is published with message, target, time and reason', async (t) => {
  const world = new OutcomesWorld()
  await world.start()
  await world.recordEnd(1n)
  await world.turnFeedOn()
  await world.recordEnd(2n, 'delivered')
  await world.recordEnd(3n, 'expired', PROJECT, 'late')
  await world.recordEnd(4n, 'delivered', 'other')
  const published = await world.untilPublished(2)
  t.same(published, [
    {
      ...{ v: 1, id: '2.delivered', kind: 'delivered', projectId: PROJECT, applicationId: APPLICATION },
      ...{
        messageId: String(PARENT + 2n),
        target: `${deviceName(2)}/1`,
        time: '1970-01-01T00:00:01.002Z',
        reason: null,
      },
    },
    {
      ...{ v: 1, id: '3.expired', kind: 'expired', projectId: PROJECT, applicationId: APPLICATION },
      ...{
        messageId: String(PARENT + 3n),
        target: `${deviceName(3)}/1`,
        time: '1970-01-01T00:00:01.003Z',
        reason: 'late',
      },
    },
  ])
  t.same(
    [...world.metrics.published],
    [
      ['delivered', 1],
      ['expired', 1],
    ],
  )
})

t.test('while no project has a feed, no final event is read and no outcome written', async (t) => {
  const world = new OutcomesWorld()
  const operations: string[] = []
  world.sim.server.observe = (operation, subject) => operations.push(`${operation} ${subject}`)
  const tails: string[] = []
  const { server } = world.sim
  const follow = server.follow.bind(server)
  server.follow = (stream, follower) => {
    tails.push(stream.name)
    return follow(stream, follower)
  }
  await world.start()
  for (let id = 1n; id <= 20n; id++) await world.recordEnd(id)
  await world.sim.clock.advance(5_000)
  t.ok(tails.includes('KV_FEEDS'), 'the publisher watches for feeds')
  t.notOk(tails.includes('EVENTS_0'))
  t.same(
    operations.filter((line) => /push\.event|FEED_STATE/.test(line)),
    [],
  )
  for (const step of world.metrics.steps) t.equal(await world.advanceUntil(step.lag()), 0, step.name)
})

t.test('a second feed gets each final event from the moment it is turned on until it is turned off', async (t) => {
  const world = new OutcomesWorld({ faults: { latencyMs: [1, 10] } })
  await world.start()
  await world.turnFeedOn()
  await world.recordEnd(1n)
  await world.untilPublished(1)
  await world.turnFeedOn('late')
  await Promise.all([world.recordEnd(2n, 'delivered', 'late'), world.recordEnd(3n)])
  const published = await world.untilPublished(3)
  t.same(new Set(published.map(({ id }) => id)), new Set(['1.delivered', '2.delivered', '3.delivered']))
  await world.advanceUntil(openFeeds(world.observer).table.delete('late'))
  await world.sim.clock.advance(1_000)
  await world.recordEnd(4n, 'delivered', 'late')
  await world.recordEnd(5n)
  t.same(
    (await world.untilPublished(4)).slice(3).map(({ id }) => id),
    ['5.delivered'],
  )
})

t.test('a feed that the publisher finds late gets each final event since it was turned on, none older', async (t) => {
  const world = new OutcomesWorld()
  await world.start()
  await world.turnFeedOn()
  await world.recordEnd(1n, 'delivered', 'late')
  const { lastSequence } = await world.advanceUntil(world.observer.log('EVENTS_0').state())
  await world.recordEnd(2n, 'delivered', 'late')
  await world.recordEnd(3n)
  await world.untilPublished(1)
  const turnedOn = (id: string, since: number) =>
    openFeeds(world.observer).create({ v: 1, id, since: [since], webhook: null, createdAtMs: 0, updatedAtMs: 0 })
  const ids = async (count: number) => (await world.untilPublished(count)).map(({ id }) => id)
  await world.advanceUntil(turnedOn('late', lastSequence))
  t.same(await ids(2), ['3.delivered', '2.delivered'])
  await world.advanceUntil(turnedOn('early', 0))
  await world.recordEnd(4n, 'delivered', 'early')
  t.same(
    await ids(3),
    ['3.delivered', '2.delivered', '4.delivered'],
    'reading again for one feed publishes no older events of the others',
  )
})

t.test('a final event waits for a late accepted event, and is published without a target if none comes', async (t) => {
  const world = new OutcomesWorld()
  await world.start()
  await world.turnFeedOn()
  const at = { project: PROJECT, application: APPLICATION, device: deviceName(1) }
  await world.advanceUntil(world.events.final(1n, { kind: 'cancelled', atMs: 1, ...at, reason: '' }))
  await world.advanceUntil(world.events.final(2n, { kind: 'cancelled', atMs: 1, ...at, reason: '' }))
  const stored = { id: 1n, parent: 7n, ...at, registration: 1, acceptedAtMs: 1, expiresAtMs: 2 }
  await world.advanceUntil(world.events.accepted(stored as unknown as StoredMessage))
  const published = await world.untilPublished(2)
  t.match(published, [
    { id: '1.cancelled', messageId: '7', target: `${deviceName(1)}/1` },
    { id: '2.cancelled', target: null },
  ])
})

t.test(
  'sixty final events are all published, with at most publishInflightMax in flight and refused appends',
  async (t) => {
    const world = new OutcomesWorld()
    await world.turnFeedOn()
    for (let id = 1n; id <= 60n; id++) await world.recordEnd(id)
    world.sim.faults.refuseAppend = 0.3
    const inflight = () => Math.max(0, ...[...world.metrics.steps].map((step) => step.inflight()))
    let inflightMost = 0
    world.sim.server.observe = () => {
      inflightMost = Math.max(inflightMost, inflight())
    }
    await world.start({ publishInflightMax: 5 })
    const ids = (await world.untilPublished(60)).map(({ id }) => id)
    t.equal(new Set(ids).size, 60)
    t.equal(inflightMost, 5)
  },
)

t.test('records that reach publishInflightMax before their tail has started do not block it', async (t) => {
  const world = new OutcomesWorld()
  await world.turnFeedOn()
  for (let id = 1n; id <= 20n; id++) await world.recordEnd(id)
  await world.start({ publishInflightMax: 5 }, (process) => {
    const source = process.log('EVENTS_0')
    const tail = source.tail.bind(source)
    source.tail = async (options, handler, hooks) => {
      const consumption = await tail(options, handler, hooks)
      await sleep(process.clock, 20)
      return consumption
    }
  })
  const ids = (await world.untilPublished(20)).map(({ id }) => id)
  t.equal(new Set(ids).size, 20)
})

t.test('a publisher that crashes or stops again and again loses no event and stores none twice', async (t) => {
  for (let seed = 1; seed <= 15; seed++) {
    const world = new OutcomesWorld({ seed, faults: { latencyMs: [1, 15] } })
    await world.turnFeedOn()
    world.sim.faults.loseAnswer = 0.02
    let running = await world.start()
    for (let id = 1n; id <= 50n; id++) {
      world.sim.faults.loseAnswer = 0
      await world.recordEnd(id)
      world.sim.faults.loseAnswer = 0.02
      if (id % 7n !== 0n) continue
      if (id % 2n === 0n) running.process.crash()
      else await world.advanceUntil(running.part.stop())
      running = await world.start()
    }
    world.sim.heal()
    await world.sim.clock.advance(20_000)
    const ids = (await world.published()).map(({ id }) => id)
    t.equal(new Set(ids).size, 50, `seed ${seed}: each event is stored`)
    t.equal(ids.length, 50, `seed ${seed}: no event is stored twice`)
    const position = await world.advanceUntil(new FeedStates(world.observer as Broker).position(0))
    t.equal(
      position,
      (await world.advanceUntil(world.observer.log('EVENTS_0').state())).lastSequence,
      `seed ${seed}: the position`,
    )
  }
})

t.test('a second core continues where the first one crashed', async (t) => {
  const world = new OutcomesWorld()
  await world.turnFeedOn()
  const first = await world.start()
  await world.start()
  await world.recordEnd(1n)
  await world.untilPublished(1)
  first.process.crash()
  await world.recordEnd(2n)
  t.same(
    (await world.untilPublished(2)).map(({ id }) => id),
    ['1.delivered', '2.delivered'],
  )
})

t.test('a start with allowedNetworks that cannot be parsed rejects with RangeError', async (t) => {
  const world = new OutcomesWorld()
  const { sim, metrics } = world
  const process = sim.brokerFor('wrong')
  const starting = startFeeds({
    ...{ broker: process, clock: process.clock, random: sim.random, split: SIM_SPLIT, log: silentLogger, metrics },
    ...{ settings: quickSettings, webhooks: { ...quickWebhooks, allowedNetworks: '10.0.0.0/33' } },
    registrationIdOf: () => '',
    secrets: Keyring.generate(0).secretsKeys,
  })
  await t.rejects(world.advanceUntil(starting), RangeError)
})
