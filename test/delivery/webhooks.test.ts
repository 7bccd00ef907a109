/** Webhooks: what they send, what they do with each answer, and what a crash leaves. */
import t from 'tap'
import { OUTCOME_EVENTS_STREAM } from '../../protocol/subjects.js'
import { consumerOf } from '../../src/core/outcomes/webhooks/consumer.js'
import { signatureOf } from '../../src/core/outcomes/webhooks/signature.js'
import type { Delivery } from '../../src/nats/broker.js'
import { ok, Place, PROJECT, type Received, root, SECOND_MS, status, URL_ } from '../support/webhooks-place.js'

t.test('events come signed, once, in the kinds that were asked for, and are acknowledged', async (t) => {
  const place = new Place()
  const secret = await place.project(PROJECT, ['delivered', 'failed'])
  await place.start()
  await place.tell('1')
  await place.tell('2', PROJECT, 'expired')
  await place.tell('3', PROJECT, 'failed')
  await place.wait(3 * SECOND_MS)
  t.same(place.ids, ['1', '3'])
  const [first] = place.received
  if (!first) return t.fail('it came')
  t.equal(first.url, `${URL_}/${PROJECT}`)
  t.equal(first.headers['content-type'], 'application/json')
  const [id = '', at = ''] = [first.headers['webhook-id'], first.headers['webhook-timestamp']]
  t.equal(first.headers['webhook-signature'], signatureOf(secret, id, Number(at), first.body))
  t.match(await place.view(), { waiting: { webhook: 0 }, state: { state: 'ok', lastError: null, givenUp: 0 } })
  t.equal(place.metrics.webhookEvents, 2)
})

t.test('what waits goes out in batches, a bounded number at once', async (t) => {
  const place = new Place({ batchMax: 10, postsPerProjectMax: 2 })
  await place.project()
  await place.start()
  let most = 0
  let now = 0
  place.answer = async () => {
    most = Math.max(most, ++now)
    await new Promise<void>((resolve) => place.sim.clock.after(100, resolve))
    now--
    return ok
  }
  for (let n = 0; n < 45; n++) await place.tell(`${n}`)
  await place.wait(5 * SECOND_MS)
  t.same(new Set(place.ids).size, 45)
  t.equal(place.ids.length, 45)
  t.equal(most, 2)
  t.ok(place.received.length < 12, `${place.received.length} POSTs`)
  t.ok(place.received.every(({ ids }) => ids.length <= 10))
})

t.test(
  'a receiver that fails gets the same batch again, later and later, one at a time; the rest follows',
  async (t) => {
    const place = new Place({ backoffMs: 100, backoffMaxMs: 1_000_000 })
    await place.project()
    await place.start()
    place.answer = () => (place.received.length < 6 ? status(500) : ok)
    await place.tell('1')
    await place.wait(1)
    for (let n = 2; n <= 5; n++) await place.tell(`${n}`)
    await place.wait(2 * SECOND_MS)
    t.match(await place.view(), {
      waiting: { webhook: 5 },
      state: { state: 'failing', lastError: 'status 500', failingSinceMs: Number, lastSuccessAtMs: null },
    })
    await place.wait(20 * SECOND_MS)
    t.same([...new Set(place.ids)].sort(), ['1', '2', '3', '4', '5'])
    const tries = place.received.filter(({ ids }) => ids.includes('1'))
    t.equal(tries.length, 6)
    t.equal(new Set(tries.map(({ headers }) => headers['webhook-id'])).size, 1, 'the same id')
    const gaps = tries.slice(1).map(({ atMs }, index) => atMs - (tries[index]?.atMs ?? 0))
    for (const [index, gap] of gaps.entries()) {
      t.ok(gap >= 50 * 2 ** index && gap <= 100 * 2 ** index + 1, `wait ${index + 1}: ${gap} ms`)
    }
    t.equal(place.received[1]?.ids[0], '1', 'nothing else is tried meanwhile')
    t.match(await place.view(), { waiting: { webhook: 0 }, state: { state: 'ok', failingSinceMs: null } })
  },
)

t.test('Retry-After is heeded, up to the limit of a wait', async (t) => {
  const place = new Place({ backoffMs: 10, backoffMaxMs: 60_000 })
  await place.project()
  await place.start()
  const answers = [status(429, 30_000), status(503, 3_600_000), ok]
  place.answer = () => answers.shift() ?? ok
  await place.tell('1')
  await place.wait(29 * SECOND_MS)
  t.equal(place.received.length, 1)
  await place.wait(2 * SECOND_MS)
  t.equal(place.received.length, 2)
  await place.wait(58 * SECOND_MS)
  t.equal(place.received.length, 2)
  await place.wait(3 * SECOND_MS)
  t.equal(place.received.length, 3)
})

t.test('410 disables it, in AUDIT and for all to see; who wants it again says so', async (t) => {
  const place = new Place()
  await place.project()
  await place.start()
  place.answer = () => status(410)
  await place.tell('1')
  await place.wait(5 * SECOND_MS)
  await place.tell('2')
  await place.wait(60 * SECOND_MS)
  t.equal(place.received.length, 1)
  t.match(await place.view(), { feed: { webhook: { disabled: { reason: 'gone' } } }, waiting: { webhook: 2 } })
  const { entries } = await place.run(place.administration.auditPage(root, { project: PROJECT, limit: 1 }))
  t.match(entries, [
    { actor: 'core', action: 'webhook.disable', details: { reason: 'gone', origin: 'http://127.0.0.1' } },
  ])
  place.answer = () => ok
  await place.run(place.feeds.retryWebhook(root, PROJECT))
  await place.wait(60 * SECOND_MS)
  t.same(new Set(place.ids), new Set(['1', '2']))
  t.match(await place.view(), { feed: { webhook: { disabled: null } }, waiting: { webhook: 0 } })
})

t.test('several POSTs that are answered 410 at once disable it once', async (t) => {
  const place = new Place({ batchMax: 1, postsPerProjectMax: 4 })
  await place.project()
  await place.start()
  place.answer = async () => {
    await new Promise<void>((resolve) => place.sim.clock.after(SECOND_MS, resolve))
    return status(410)
  }
  for (let n = 0; n < 4; n++) await place.tell(`${n}`)
  await place.wait(10 * SECOND_MS)
  t.equal(place.received.length, 4)
  const { entries } = await place.run(place.administration.auditPage(root, { project: PROJECT, limit: 10 }))
  t.equal(entries.filter(({ action }) => action === 'webhook.disable').length, 1)
})

t.test('410 of a url that was changed meanwhile disables nothing, and AUDIT does not say so', async (t) => {
  const place = new Place()
  await place.project()
  const { process } = await place.start()
  let answered = () => {}
  place.answer = () =>
    new Promise((resolve) => {
      answered = () => resolve(status(410))
    })
  await place.tell('1')
  await place.wait(SECOND_MS)
  // The core does not hear of it before the answer.
  process.freeze()
  await place.run(place.feeds.setWebhook(root, PROJECT, { url: `${URL_}/new`, kinds: null }))
  place.answer = () => ok
  answered()
  await place.wait(100)
  process.thaw()
  await place.wait(10 * SECOND_MS)
  t.match(await place.view(), { feed: { webhook: { disabled: null } }, waiting: { webhook: 0 } })
  const { entries } = await place.run(place.administration.auditPage(root, { project: PROJECT, limit: 10 }))
  t.notOk(entries.some(({ action }) => action === 'webhook.disable'))
  t.equal(place.received.at(-1)?.url, `${URL_}/new`)
})

t.test('one that fails for long is paused: tried now and then, and it keeps nothing in memory', async (t) => {
  const place = new Place({ pauseAfterMs: 10_000, pausedRetryMs: 100_000, backoffMaxMs: 1_000 })
  await place.project()
  await place.start()
  place.answer = () => ({ answered: false, error: 'ECONNREFUSED' })
  await place.tell('1')
  await place.wait(15 * SECOND_MS)
  t.match(await place.view(), { state: { state: 'paused', lastError: 'ECONNREFUSED' } })
  t.same([...place.metrics.webhooks()], [['paused', 1]])
  const tries = place.received.length
  for (let n = 2; n <= 20; n++) await place.tell(`${n}`)
  await place.wait(70 * SECOND_MS)
  t.equal(place.received.length, tries, 'it is left in peace')
  const free: Delivery[] = []
  const stream = place.observer.log(OUTCOME_EVENTS_STREAM)
  const other = await place.run(stream.consume(consumerOf(PROJECT, place.settings), (one) => free.push(one)))
  await place.wait(SECOND_MS)
  t.equal(free.length, 20, 'whoever asked would have them all')
  for (const delivery of free) delivery.nak(0)
  await other.stop()
  await place.wait(35 * SECOND_MS)
  t.equal(place.received.length, tries + 1, 'and tried once')
  place.answer = () => ok
  await place.run(place.feeds.retryWebhook(root, PROJECT))
  await place.wait(40 * SECOND_MS)
  t.equal(new Set(place.ids).size, 20, 'nothing was lost')
  t.match(await place.view(), { waiting: { webhook: 0 }, state: { state: 'ok' } })
})

t.test('what is too old is given up, and counted', async (t) => {
  const place = new Place({ retryForMs: 60_000 })
  await place.project()
  await place.start()
  place.answer = () => status(500)
  await place.tell('1')
  await place.wait(90 * SECOND_MS)
  t.match(await place.view(), { waiting: { webhook: 0 }, state: { givenUp: 1 } })
  t.equal(place.metrics.webhookGivenUp, 1)
  place.answer = () => ok
  await place.tell('2')
  await place.wait(10 * SECOND_MS)
  t.same(place.received.at(-1)?.ids, ['2'])
})

t.test('projects do not block one another', async (t) => {
  const place = new Place({ postsMax: 6, postsPerProjectMax: 4, batchMax: 1 })
  for (const project of ['slow', 'dead', 'good']) await place.project(project)
  await place.start()
  place.answer = async ({ url }) => {
    if (url.endsWith('good')) return ok
    await new Promise<void>((resolve) => place.sim.clock.after(2_000, resolve))
    return url.endsWith('dead') ? { answered: false, error: 'timeout' } : ok
  }
  for (let n = 0; n < 20; n++)
    for (const project of ['slow', 'dead', 'good']) await place.tell(`${project}${n}`, project)
  await place.wait(6 * SECOND_MS)
  t.equal(place.ids.filter((id) => id.startsWith('good')).length, 20)
  await place.wait(20 * SECOND_MS)
  t.equal(new Set(place.ids.filter((id) => id.startsWith('slow'))).size, 20)
})

t.test(
  'a secret is changed without a gap, another url is tried at once, and a removed webhook gets nothing',
  async (t) => {
    const place = new Place({ secretOverlapMs: 60_000 })
    const first = await place.project()
    await place.start()
    const { secret: second } = await place.run(place.feeds.rotateSecret(root, PROJECT))
    await place.wait(SECOND_MS)
    const signers = ({ headers, body }: Received) => {
      const [id = '', at = ''] = [headers['webhook-id'], headers['webhook-timestamp']]
      const by = { first: signatureOf(first, id, Number(at), body), second: signatureOf(second, id, Number(at), body) }
      return (headers['webhook-signature'] ?? '')
        .split(' ')
        .map((one) => (one === by.second ? 2 : one === by.first ? 1 : 0))
    }
    await place.tell('1')
    await place.wait(SECOND_MS)
    await place.wait(60 * SECOND_MS)
    await place.tell('2')
    await place.wait(SECOND_MS)
    t.same(place.received.map(signers), [[2, 1], [2]])

    place.answer = ({ url }) => (url.endsWith('new') ? ok : status(500, 3_600_000))
    await place.tell('3')
    await place.wait(100)
    const again = await place.run(place.feeds.setWebhook(root, PROJECT, { url: `${URL_}/new`, kinds: null }))
    t.equal(again.secret, null, 'it keeps its secret')
    await place.wait(100)
    t.match(place.received.at(-1), { ids: ['3'], url: `${URL_}/new` })
    await place.run(place.feeds.removeWebhook(root, PROJECT))
    await place.wait(SECOND_MS)
    const count = place.received.length
    await place.tell('4')
    await place.wait(60 * SECOND_MS)
    t.equal(place.received.length, count)
    t.match(await place.view(), { feed: { webhook: null }, state: null, waiting: { reader: 4, webhook: null } })
  },
)

t.test(
  'a webhook that is removed and set again is a new one: nothing of how the other did is told of it',
  async (t) => {
    for (const pauseMs of [0, 5 * SECOND_MS]) {
      const place = new Place()
      await place.project()
      const { process } = await place.start()
      place.answer = () => status(500)
      await place.tell('1')
      await place.wait(SECOND_MS)
      t.match(await place.view(), { state: { state: 'failing' } })
      // Its last failure is written down after it was removed, since the core hears of that late.
      process.freeze()
      await place.run(place.feeds.removeWebhook(root, PROJECT))
      if (pauseMs > 0) process.thaw()
      await place.wait(pauseMs)
      await place.run(place.feeds.setWebhook(root, PROJECT, { url: `${URL_}/new`, kinds: null }))
      process.thaw()
      await place.wait(5 * SECOND_MS)
      t.match(await place.view(), { state: null, waiting: { webhook: 0 } }, `after ${pauseMs} ms`)
      place.answer = () => ok
      await place.tell('2')
      await place.wait(5 * SECOND_MS)
      t.match(await place.view(), { state: { state: 'ok', lastFailureAtMs: null, lastError: null } })
      t.same(place.received.at(-1)?.ids, ['2'])
    }
  },
)

t.test('a core that dies or stops in the middle leaves everything to the next one', async (t) => {
  for (const end of ['crash', 'stop'] as const) {
    const place = new Place({ batchMax: 3 })
    await place.project()
    const first = await place.start()
    let answers = 0
    place.answer = async () => {
      if (++answers > 3) await new Promise<void>((resolve) => place.sim.clock.after(10_000, resolve))
      return ok
    }
    for (let n = 0; n < 30; n++) await place.tell(`${n}`)
    await place.wait(100)
    if (end === 'crash') first.process.crash()
    else await first.stop()
    place.answer = () => ok
    await place.start()
    await place.wait(60 * SECOND_MS)
    t.equal(new Set(place.ids).size, 30, end)
    t.match(await place.view(), { waiting: { webhook: 0 } }, end)
  }
})
