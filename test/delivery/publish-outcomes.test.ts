/** Telling app servers of ends, on virtual time: what is told, what is not, and what crashes leave of it. */
import { strict as assert } from 'node:assert'
import t from 'tap'
import type { StoredMessage } from '../../protocol/envelope.js'
import { OUTCOME_EVENTS_STREAM } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import type { Stoppable } from '../../src/core/cluster/lease.js'
import { CoreMetrics } from '../../src/core/metrics.js'
import { decodeOutcomeEvent } from '../../src/core/outcomes/outcome-event.js'
import { startFeeds } from '../../src/core/outcomes/outcomes.js'
import type { Broker } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
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
    })
    const [started] = await this.advanceUntil(Promise.allSettled([starting]))
    // A start that the store did not answer is refused as a whole; whoever runs the core starts it again.
    return started.status === 'fulfilled' ? { process, part: started.value } : this.start(settings, arrange)
  }

  /** As administration does it. */
  async turnOn(project = PROJECT): Promise<void> {
    const { lastSequence } = await this.advanceUntil(this.observer.log('EVENTS_0').state())
    const [createdAtMs, updatedAtMs] = [0, 0]
    const feed = { v: 1, id: project, since: [lastSequence], webhook: null, createdAtMs, updatedAtMs } as const
    await this.advanceUntil(openFeeds(this.observer).create({ ...feed, since: [...feed.since] }))
  }

  async end(id: bigint, kind: FinalKind = 'delivered', project = PROJECT, reason = ''): Promise<void> {
    const device = deviceName(Number(id))
    const at = { project, application: APPLICATION, device }
    const stored = { id, parent: PARENT + id, ...at, registration: 1, acceptedAtMs: 1, expiresAtMs: 2 }
    await this.advanceUntil(this.events.accepted(stored as unknown as StoredMessage))
    await this.advanceUntil(this.events.final(id, { kind, atMs: 1_000 + Number(id), ...at, reason }))
  }

  /** Of the events told, as they were stored. */
  async told(): Promise<ReturnType<typeof decodeOutcomeEvent>[]> {
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

  async untilTold(count: number): Promise<ReturnType<typeof decodeOutcomeEvent>[]> {
    const told = this.observer.log(OUTCOME_EVENTS_STREAM)
    const enough = async () => ((await told.state()).messages >= count ? true : null)
    await this.advanceUntil(eventually(this.sim.clock, `${count} events`, enough))
    return this.told()
  }
}

t.test('what ends after the feed was turned on is told, with all that an app server needs', async (t) => {
  const world = new OutcomesWorld()
  await world.start()
  await world.end(1n)
  await world.turnOn()
  await world.end(2n, 'delivered')
  await world.end(3n, 'expired', PROJECT, 'late')
  await world.end(4n, 'delivered', 'other')
  const told = await world.untilTold(2)
  t.same(told, [
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
    [...world.metrics.told],
    [
      ['delivered', 1],
      ['expired', 1],
    ],
  )
})

t.test('while nobody wants events nothing of them is read, and nothing written', async (t) => {
  const world = new OutcomesWorld()
  const touched: string[] = []
  world.sim.server.observe = (what, subject) => touched.push(`${what} ${subject}`)
  const tails: string[] = []
  const { server } = world.sim
  const follow = server.follow.bind(server)
  server.follow = (stream, follower) => {
    tails.push(stream.name)
    return follow(stream, follower)
  }
  await world.start()
  for (let id = 1n; id <= 20n; id++) await world.end(id)
  await world.sim.clock.advance(5_000)
  t.ok(tails.includes('KV_FEEDS'), 'it watches who wants them')
  t.notOk(tails.includes('EVENTS_0'))
  t.same(
    touched.filter((line) => /push\.event|FEED_STATE/.test(line)),
    [],
  )
  for (const step of world.metrics.steps) t.equal(await world.advanceUntil(step.lag()), 0, step.name)
})

t.test(
  'a feed that is turned on while others are told gets everything from then on; turned off, no more',
  async (t) => {
    const world = new OutcomesWorld({ faults: { latencyMs: [1, 10] } })
    await world.start()
    await world.turnOn()
    await world.end(1n)
    await world.untilTold(1)
    await world.turnOn('late')
    await Promise.all([world.end(2n, 'delivered', 'late'), world.end(3n)])
    const told = await world.untilTold(3)
    t.same(new Set(told.map(({ id }) => id)), new Set(['1.delivered', '2.delivered', '3.delivered']))
    await world.advanceUntil(openFeeds(world.observer).table.delete('late'))
    await world.sim.clock.advance(1_000)
    await world.end(4n, 'delivered', 'late')
    await world.end(5n)
    t.same(
      (await world.untilTold(4)).slice(3).map(({ id }) => id),
      ['5.delivered'],
    )
  },
)

t.test('who was turned on a moment before the step heard of it gets what it had passed, and no more', async (t) => {
  const world = new OutcomesWorld()
  await world.start()
  await world.turnOn()
  await world.end(1n, 'delivered', 'late')
  const { lastSequence } = await world.advanceUntil(world.observer.log('EVENTS_0').state())
  await world.end(2n, 'delivered', 'late')
  await world.end(3n)
  await world.untilTold(1)
  const turnedOn = (id: string, since: number) =>
    openFeeds(world.observer).create({ v: 1, id, since: [since], webhook: null, createdAtMs: 0, updatedAtMs: 0 })
  const ids = async (count: number) => (await world.untilTold(count)).map(({ id }) => id)
  await world.advanceUntil(turnedOn('late', lastSequence))
  t.same(await ids(2), ['3.delivered', '2.delivered'])
  await world.advanceUntil(turnedOn('early', 0))
  await world.end(4n, 'delivered', 'early')
  t.same(await ids(3), ['3.delivered', '2.delivered', '4.delivered'], 'going back for one tells others nothing older')
})

t.test(
  'an end whose beginning is written after it waits for it; where it never comes it is told without',
  async (t) => {
    const world = new OutcomesWorld()
    await world.start()
    await world.turnOn()
    const at = { project: PROJECT, application: APPLICATION, device: deviceName(1) }
    await world.advanceUntil(world.events.final(1n, { kind: 'cancelled', atMs: 1, ...at, reason: '' }))
    await world.advanceUntil(world.events.final(2n, { kind: 'cancelled', atMs: 1, ...at, reason: '' }))
    const stored = { id: 1n, parent: 7n, ...at, registration: 1, acceptedAtMs: 1, expiresAtMs: 2 }
    await world.advanceUntil(world.events.accepted(stored as unknown as StoredMessage))
    const told = await world.untilTold(2)
    t.match(told, [
      { id: '1.cancelled', messageId: '7', target: `${deviceName(1)}/1` },
      { id: '2.cancelled', target: null },
    ])
  },
)

t.test('more than fit in memory are told all the same, while the store for them is away for a while', async (t) => {
  const world = new OutcomesWorld()
  await world.turnOn()
  for (let id = 1n; id <= 60n; id++) await world.end(id)
  world.sim.faults.refuseAppend = 0.3
  const inflight = () => Math.max(0, ...[...world.metrics.steps].map((step) => step.inflight()))
  let most = 0
  world.sim.server.observe = () => {
    most = Math.max(most, inflight())
  }
  await world.start({ publishInflightMax: 5 })
  const ids = (await world.untilTold(60)).map(({ id }) => id)
  t.equal(new Set(ids).size, 60)
  t.equal(most, 5)
})

t.test('records that come before their tail does, and fill the memory, hold up nothing', async (t) => {
  const world = new OutcomesWorld()
  await world.turnOn()
  for (let id = 1n; id <= 20n; id++) await world.end(id)
  await world.start({ publishInflightMax: 5 }, (process) => {
    const source = process.log('EVENTS_0')
    const tail = source.tail.bind(source)
    source.tail = async (options, handler, hooks) => {
      const consumption = await tail(options, handler, hooks)
      await sleep(process.clock, 20)
      return consumption
    }
  })
  const ids = (await world.untilTold(20)).map(({ id }) => id)
  t.equal(new Set(ids).size, 20)
})

t.test('crashes at any moment lose no event, and what is told twice has the same id', async (t) => {
  for (let seed = 1; seed <= 15; seed++) {
    const world = new OutcomesWorld({ seed, faults: { latencyMs: [1, 15] } })
    await world.turnOn()
    world.sim.faults.loseAnswer = 0.02
    let running = await world.start()
    for (let id = 1n; id <= 50n; id++) {
      world.sim.faults.loseAnswer = 0
      await world.end(id)
      world.sim.faults.loseAnswer = 0.02
      if (id % 7n !== 0n) continue
      if (id % 2n === 0n) running.process.crash()
      else await world.advanceUntil(running.part.stop())
      running = await world.start()
    }
    world.sim.heal()
    await world.sim.clock.advance(20_000)
    const ids = (await world.told()).map(({ id }) => id)
    t.equal(new Set(ids).size, 50, `seed ${seed}: none is lost`)
    t.equal(ids.length, 50, `seed ${seed}: repeats within the duplicate window are stored once`)
    const position = await world.advanceUntil(new FeedStates(world.observer as Broker).position(0))
    t.equal(position, (await world.advanceUntil(world.observer.log('EVENTS_0').state())).lastSequence, `seed ${seed}`)
  }
})

t.test('the second core goes on where the first one died', async (t) => {
  const world = new OutcomesWorld()
  await world.turnOn()
  const first = await world.start()
  await world.start()
  await world.end(1n)
  await world.untilTold(1)
  first.process.crash()
  await world.end(2n)
  t.same(
    (await world.untilTold(2)).map(({ id }) => id),
    ['1.delivered', '2.delivered'],
  )
})

t.test('networks that are none refuse the start', async (t) => {
  const world = new OutcomesWorld()
  const { sim, metrics } = world
  const process = sim.brokerFor('wrong')
  const starting = startFeeds({
    ...{ broker: process, clock: process.clock, random: sim.random, split: SIM_SPLIT, log: silentLogger, metrics },
    ...{ settings: quickSettings, webhooks: { ...quickWebhooks, allowedNetworks: '10.0.0.0/33' } },
    registrationIdOf: () => '',
  })
  await t.rejects(world.advanceUntil(starting), RangeError)
})
