/** The webhooks of a core: the requests that it sends, its reaction to each answer, and crashes in between. */
import t from 'tap'
import { OUTCOME_EVENTS_STREAM } from '../../protocol/subjects.js'
import { consumerOf } from '../../src/core/outcomes/webhooks/endpoint.js'
import { signatureOf } from '../../src/core/outcomes/webhooks/signature.js'
import type { Delivery } from '../../src/nats/broker.js'
import {
  HOOK_URL,
  ok,
  PROJECT,
  type Received,
  root,
  SECOND_MS,
  status,
  WebhookWorld,
} from '../support/webhook-world.js'

t.test('events of the requested kinds are posted once and signed, and leave the stream', async (t) => {
  const world = new WebhookWorld()
  const secret = await world.project(PROJECT, ['delivered', 'failed'])
  await world.start()
  await world.publish('1')
  await world.publish('2', PROJECT, 'expired')
  await world.publish('3', PROJECT, 'failed')
  await world.advance(3 * SECOND_MS)
  t.same(world.receivedIds, ['1', '3'])
  const [first] = world.received
  if (!first) return t.fail('a POST is expected')
  t.equal(first.url, `${HOOK_URL}/${PROJECT}`)
  t.equal(first.headers['content-type'], 'application/json')
  const [id = '', at = ''] = [first.headers['webhook-id'], first.headers['webhook-timestamp']]
  t.equal(first.headers['webhook-signature'], signatureOf(secret, id, Number(at), first.body))
  t.match(await world.view(), { waiting: { webhook: 0 }, state: { state: 'ok', lastError: null, givenUp: 0 } })
  t.equal(world.metrics.webhookEvents, 2)
})

t.test('45 waiting events are posted in batches of up to batchMax, up to postsPerProjectMax at once', async (t) => {
  const world = new WebhookWorld({ batchMax: 10, postsPerProjectMax: 2 })
  await world.project()
  await world.start()
  let atOnceMost = 0
  let atOnce = 0
  world.answer = async () => {
    atOnceMost = Math.max(atOnceMost, ++atOnce)
    await new Promise<void>((resolve) => world.sim.clock.after(100, resolve))
    atOnce--
    return ok
  }
  for (let n = 0; n < 45; n++) await world.publish(`${n}`)
  await world.advance(5 * SECOND_MS)
  t.same(new Set(world.receivedIds).size, 45)
  t.equal(world.receivedIds.length, 45)
  t.equal(atOnceMost, 2)
  t.ok(world.received.length < 12, `${world.received.length} POSTs`)
  t.ok(world.received.every(({ ids }) => ids.length <= 10))
})

t.test(
  'a failing receiver gets the same batch again after growing waits, and the other events afterwards',
  async (t) => {
    const world = new WebhookWorld({ backoffMs: 100, backoffMaxMs: 1_000_000 })
    await world.project()
    await world.start()
    world.answer = () => (world.received.length < 6 ? status(500) : ok)
    await world.publish('1')
    await world.advance(1)
    for (let n = 2; n <= 5; n++) await world.publish(`${n}`)
    // The sixth attempt, which succeeds, comes after 1,550 ms at the earliest.
    await world.advance(1_500)
    t.match(await world.view(), {
      waiting: { webhook: 5 },
      state: { state: 'failing', lastError: 'status 500', failingSinceMs: Number, lastSuccessAtMs: null },
    })
    await world.advance(20 * SECOND_MS)
    t.same([...new Set(world.receivedIds)].sort(), ['1', '2', '3', '4', '5'])
    const attempts = world.received.filter(({ ids }) => ids.includes('1'))
    t.equal(attempts.length, 6)
    t.equal(new Set(attempts.map(({ headers }) => headers['webhook-id'])).size, 1, 'the same webhook-id')
    const waitsMs = attempts.slice(1).map(({ atMs }, index) => atMs - (attempts[index]?.atMs ?? 0))
    for (const [index, waitMs] of waitsMs.entries()) {
      t.ok(waitMs >= 50 * 2 ** index && waitMs <= 100 * 2 ** index + 1, `wait ${index + 1}: ${waitMs} ms`)
    }
    t.equal(world.received[1]?.ids[0], '1', 'no other batch is posted meanwhile')
    t.match(await world.view(), { waiting: { webhook: 0 }, state: { state: 'ok', failingSinceMs: null } })
  },
)

t.test('an answer with Retry-After sets the wait, up to backoffMaxMs', async (t) => {
  const world = new WebhookWorld({ backoffMs: 10, backoffMaxMs: 60_000 })
  await world.project()
  await world.start()
  const answers = [status(429, 30_000), status(503, 3_600_000), ok]
  world.answer = () => answers.shift() ?? ok
  await world.publish('1')
  await world.advance(29 * SECOND_MS)
  t.equal(world.received.length, 1)
  await world.advance(2 * SECOND_MS)
  t.equal(world.received.length, 2)
  await world.advance(58 * SECOND_MS)
  t.equal(world.received.length, 2)
  await world.advance(3 * SECOND_MS)
  t.equal(world.received.length, 3)
})

t.test('an answer 410', async (t) => {
  const world = new WebhookWorld()
  await world.project()
  await world.start()
  world.answer = () => status(410)
  await world.publish('1')
  await world.advance(5 * SECOND_MS)

  await t.test('disables the webhook, whose events wait', async (t) => {
    await world.publish('2')
    await world.advance(60 * SECOND_MS)
    t.equal(world.received.length, 1)
    t.match(await world.view(), { feed: { webhook: { disabled: { reason: 'gone' } } }, waiting: { webhook: 2 } })
  })

  await t.test('is in the audit log', async (t) => {
    const { entries } = await world.advanceUntil(world.administration.auditPage(root, { project: PROJECT, limit: 1 }))
    t.match(entries, [
      { actor: 'core', action: 'webhook.disable', details: { reason: 'gone', origin: 'http://127.0.0.1' } },
    ])
  })

  await t.test('is undone by a retry of an operator, and the waiting events are posted', async (t) => {
    world.answer = () => ok
    await world.advanceUntil(world.feeds.retryWebhook(root, PROJECT))
    await world.advance(60 * SECOND_MS)
    t.same(new Set(world.receivedIds), new Set(['1', '2']))
    t.match(await world.view(), { feed: { webhook: { disabled: null } }, waiting: { webhook: 0 } })
  })
})

t.test('several POSTs that are answered 410 at once disable the webhook once', async (t) => {
  const world = new WebhookWorld({ batchMax: 1, postsPerProjectMax: 4 })
  await world.project()
  await world.start()
  world.answer = async () => {
    await new Promise<void>((resolve) => world.sim.clock.after(SECOND_MS, resolve))
    return status(410)
  }
  for (let n = 0; n < 4; n++) await world.publish(`${n}`)
  await world.advance(10 * SECOND_MS)
  t.equal(world.received.length, 4)
  const { entries } = await world.advanceUntil(world.administration.auditPage(root, { project: PROJECT, limit: 10 }))
  t.equal(entries.filter(({ action }) => action === 'webhook.disable').length, 1)
})

t.test('an answer 410 to a url that was changed meanwhile does not disable the webhook', async (t) => {
  const world = new WebhookWorld()
  await world.project()
  const { process } = await world.start()
  let answered = () => {}
  world.answer = () =>
    new Promise((resolve) => {
      answered = () => resolve(status(410))
    })
  await world.publish('1')
  await world.advance(SECOND_MS)
  // The frozen core learns of the new url only after the answer.
  process.freeze()
  await world.advanceUntil(world.feeds.setWebhook(root, PROJECT, { url: `${HOOK_URL}/new`, kinds: null }))
  world.answer = () => ok
  answered()
  await world.advance(100)
  process.thaw()
  await world.advance(10 * SECOND_MS)
  t.match(await world.view(), { feed: { webhook: { disabled: null } }, waiting: { webhook: 0 } })
  const { entries } = await world.advanceUntil(world.administration.auditPage(root, { project: PROJECT, limit: 10 }))
  t.notOk(entries.some(({ action }) => action === 'webhook.disable'))
  t.equal(world.received.at(-1)?.url, `${HOOK_URL}/new`)
})

t.test('a webhook that fails for longer than pauseAfterMs', async (t) => {
  const world = new WebhookWorld({ pauseAfterMs: 10_000, pausedRetryMs: 100_000, backoffMaxMs: 1_000 })
  await world.project()
  await world.start()
  world.answer = () => ({ answered: false, error: 'ECONNREFUSED' })
  await world.publish('1')
  await world.advance(15 * SECOND_MS)
  const attempts = world.received.length

  await t.test('is paused', async (t) => {
    t.match(await world.view(), { state: { state: 'paused', lastError: 'ECONNREFUSED' } })
    t.same([...world.metrics.webhooks()], [['paused', 1]])
  })

  await t.test('gets no POST before pausedRetryMs', async (t) => {
    for (let n = 2; n <= 20; n++) await world.publish(`${n}`)
    await world.advance(70 * SECOND_MS)
    t.equal(world.received.length, attempts)
  })

  await t.test('holds no event: another process can consume all of them', async (t) => {
    const deliveries: Delivery[] = []
    const stream = world.observer.log(OUTCOME_EVENTS_STREAM)
    const other = await world.advanceUntil(
      stream.consume(consumerOf(PROJECT, world.settings), (delivery) => deliveries.push(delivery)),
    )
    await world.advance(SECOND_MS)
    t.equal(deliveries.length, 20)
    for (const delivery of deliveries) delivery.nack(0)
    await other.stop()
  })

  await t.test('gets one POST after pausedRetryMs', async (t) => {
    await world.advance(35 * SECOND_MS)
    t.equal(world.received.length, attempts + 1)
  })

  await t.test('gets all events after a retry by an operator', async (t) => {
    world.answer = () => ok
    await world.advanceUntil(world.feeds.retryWebhook(root, PROJECT))
    await world.advance(40 * SECOND_MS)
    t.equal(new Set(world.receivedIds).size, 20)
    t.match(await world.view(), { waiting: { webhook: 0 }, state: { state: 'ok' } })
  })
})

t.test('an event older than retryForMs is given up and counted, and later events are posted', async (t) => {
  const world = new WebhookWorld({ retryForMs: 60_000 })
  await world.project()
  await world.start()
  world.answer = () => status(500)
  await world.publish('1')
  await world.advance(90 * SECOND_MS)
  t.match(await world.view(), { waiting: { webhook: 0 }, state: { givenUp: 1 } })
  t.equal(world.metrics.webhookGivenUp, 1)
  world.answer = () => ok
  await world.publish('2')
  await world.advance(10 * SECOND_MS)
  t.same(world.received.at(-1)?.ids, ['2'])
})

t.test('slow and dead receivers do not block the events of another project', async (t) => {
  const world = new WebhookWorld({ postsMax: 6, postsPerProjectMax: 4, batchMax: 1 })
  for (const project of ['slow', 'dead', 'good']) await world.project(project)
  await world.start()
  world.answer = async ({ url }) => {
    if (url.endsWith('good')) return ok
    await new Promise<void>((resolve) => world.sim.clock.after(2_000, resolve))
    return url.endsWith('dead') ? { answered: false, error: 'timeout' } : ok
  }
  for (let n = 0; n < 20; n++)
    for (const project of ['slow', 'dead', 'good']) await world.publish(`${project}${n}`, project)
  await world.advance(6 * SECOND_MS)
  t.equal(world.receivedIds.filter((id) => id.startsWith('good')).length, 20)
  await world.advance(20 * SECOND_MS)
  t.equal(new Set(world.receivedIds.filter((id) => id.startsWith('slow'))).size, 20)
})

t.test('a rotated secret signs beside the old one during the overlap, then alone', async (t) => {
  const world = new WebhookWorld({ secretOverlapMs: 60_000 })
  const first = await world.project()
  await world.start()
  const { secret: second } = await world.advanceUntil(world.feeds.rotateSecret(root, PROJECT))
  await world.advance(SECOND_MS)
  /** The secrets that signed a POST: 1 for the first, 2 for the second, 0 for an unknown one. */
  const signers = ({ headers, body }: Received) => {
    const [id = '', at = ''] = [headers['webhook-id'], headers['webhook-timestamp']]
    const expected = [first, second].map((secret) => signatureOf(secret, id, Number(at), body))
    return (headers['webhook-signature'] ?? '').split(' ').map((signature) => 1 + expected.indexOf(signature))
  }
  await world.publish('1')
  await world.advance(SECOND_MS)
  await world.advance(60 * SECOND_MS)
  await world.publish('2')
  await world.advance(SECOND_MS)
  t.same(world.received.map(signers), [[2, 1], [2]])
})

t.test('a changed url gets a POST at once, and keeps its secret', async (t) => {
  const world = new WebhookWorld({ secretOverlapMs: 60_000 })
  await world.project()
  await world.start()
  world.answer = ({ url }) => (url.endsWith('new') ? ok : status(500, 3_600_000))
  await world.publish('3')
  await world.advance(100)
  const changed = await world.advanceUntil(
    world.feeds.setWebhook(root, PROJECT, { url: `${HOOK_URL}/new`, kinds: null }),
  )
  t.equal(changed.secret, null, 'no new secret')
  await world.advance(100)
  t.match(world.received.at(-1), { ids: ['3'], url: `${HOOK_URL}/new` })
})

t.test('a removed webhook gets no further event, and the events stay for the NATS reader', async (t) => {
  const world = new WebhookWorld()
  await world.project()
  await world.start()
  for (const id of ['1', '2', '3']) await world.publish(id)
  await world.advance(SECOND_MS)
  await world.advanceUntil(world.feeds.removeWebhook(root, PROJECT))
  await world.advance(SECOND_MS)
  const count = world.receivedIds.length
  t.equal(count, 3)
  await world.publish('4')
  await world.advance(60 * SECOND_MS)
  t.equal(world.receivedIds.length, count)
  t.match(await world.view(), { feed: { webhook: null }, state: null, waiting: { reader: 4, webhook: null } })
})

t.test('a webhook that is removed and set again starts without the failures of the old one', async (t) => {
  for (const pauseMs of [0, 5 * SECOND_MS]) {
    const world = new WebhookWorld()
    await world.project()
    const { process } = await world.start()
    world.answer = () => status(500)
    await world.publish('1')
    await world.advance(SECOND_MS)
    t.match(await world.view(), { state: { state: 'failing' } })
    // The frozen core learns of the removal late, so it records the last failure afterwards.
    process.freeze()
    await world.advanceUntil(world.feeds.removeWebhook(root, PROJECT))
    if (pauseMs > 0) process.thaw()
    await world.advance(pauseMs)
    await world.advanceUntil(world.feeds.setWebhook(root, PROJECT, { url: `${HOOK_URL}/new`, kinds: null }))
    process.thaw()
    await world.advance(5 * SECOND_MS)
    t.match(await world.view(), { state: null, waiting: { webhook: 0 } }, `after ${pauseMs} ms`)
    world.answer = () => ok
    await world.publish('2')
    await world.advance(5 * SECOND_MS)
    t.match(await world.view(), { state: { state: 'ok', lastFailureAtMs: null, lastError: null } })
    t.same(world.received.at(-1)?.ids, ['2'])
  }
})

t.test('after a core crashed or stopped during many POSTs, the next core posts each event', async (t) => {
  for (const end of ['crash', 'stop'] as const) {
    const world = new WebhookWorld({ batchMax: 3 })
    await world.project()
    const first = await world.start()
    let answers = 0
    world.answer = async () => {
      if (++answers > 3) await new Promise<void>((resolve) => world.sim.clock.after(10_000, resolve))
      return ok
    }
    for (let n = 0; n < 30; n++) await world.publish(`${n}`)
    await world.advance(100)
    if (end === 'crash') first.process.crash()
    else await first.stop()
    world.answer = () => ok
    await world.start()
    await world.advance(60 * SECOND_MS)
    t.equal(new Set(world.receivedIds).size, 30, end)
    t.match(await world.view(), { waiting: { webhook: 0 } }, end)
  }
})
