/** The secrets of webhooks in the store: encrypted, read to sign, and encrypted anew when the key changes. */
import t from 'tap'
import { SecretReseal } from '../../src/core/outcomes/reseal.js'
import { signatureOf } from '../../src/core/outcomes/webhooks/signature.js'
import { silentLogger } from '../../src/observe/log.js'
import { openFeeds } from '../../src/store/feeds.js'
import { sealedWith } from '../../src/store/sealed-secrets.js'
import { WebhookWorld } from '../support/webhook-world.js'

const PROJECT = 'shop'

async function storedSecrets(world: WebhookWorld): Promise<string[]> {
  const feed = await world.advanceUntil(openFeeds(world.observer).get(PROJECT))
  return (feed?.webhook?.secrets ?? []).map(({ secret }) => secret)
}

/** True if the newest POST is signed with this secret. */
function isSignedWith(world: WebhookWorld, secret: string): boolean {
  const post = world.received.at(-1)
  const {
    'webhook-id': id = '',
    'webhook-timestamp': timestamp,
    'webhook-signature': signatures = '',
  } = (post?.headers ?? {}) as Record<string, string>
  return post !== undefined && signatures.split(' ').includes(signatureOf(secret, id, Number(timestamp), post.body))
}

async function startReseal(world: WebhookWorld) {
  const { process, feeds } = await world.start()
  const reseal = new SecretReseal({
    ...{ broker: process, clock: process.clock, log: silentLogger, feeds, retryMs: 50 },
    secrets: world.keyring.secretsKeys,
  })
  reseal.start()
  return { process, reseal }
}

t.test('a secret is stored encrypted, and signs', async (t) => {
  const world = new WebhookWorld()
  const secret = await world.project(PROJECT)
  const [stored = ''] = await storedSecrets(world)
  t.equal(sealedWith(stored), world.keyring.activeKid('secrets'))
  t.notMatch(stored, /whsec/)
  await world.start()
  await world.publish('1.delivered', PROJECT)
  await world.advance(1_000)
  t.ok(isSignedWith(world, secret))
  const rotated = await world.advanceUntil(
    world.feeds.rotateSecret({ name: 'cli:test', role: 'operator', projects: '*' }, PROJECT),
  )
  t.ok((await storedSecrets(world)).every((text) => sealedWith(text) !== null))
  await world.publish('2.delivered', PROJECT)
  await world.advance(1_000)
  t.ok(isSignedWith(world, rotated.secret))
  t.ok(isSignedWith(world, secret), 'the one before signs beside it')
})

t.test('a secret of before is used, and is encrypted when a core starts', async (t) => {
  const world = new WebhookWorld()
  const secret = await world.project(PROJECT)
  const store = openFeeds(world.observer)
  await world.advanceUntil(
    store.update(PROJECT, (feed) => {
      const { webhook } = feed
      if (!webhook) throw new Error('no webhook')
      return { ...feed, webhook: { ...webhook, secrets: webhook.secrets.map((one) => ({ ...one, secret })) } }
    }),
  )
  t.same(await storedSecrets(world), [secret], 'in clear text, as release 0.1 writes it')
  const { reseal } = await startReseal(world)
  await world.publish('1.delivered', PROJECT)
  await world.advance(1_000)
  t.same((await storedSecrets(world)).map(sealedWith), [world.keyring.activeKid('secrets')])
  t.ok(isSignedWith(world, secret))
  await world.advanceUntil(reseal.stop())
})

t.test('after another key was activated, secrets are encrypted with it', async (t) => {
  const world = new WebhookWorld()
  const secret = await world.project(PROJECT)
  const { process, reseal } = await startReseal(world)
  const old = world.keyring.activeKid('secrets')
  const kid = world.keyring.add('secrets', 2)
  await world.advance(500)
  t.same((await storedSecrets(world)).map(sealedWith), [old], 'an added key encrypts nothing')
  process.partition()
  world.keyring.activate('secrets', kid, 3)
  await world.advance(500)
  process.heal()
  await world.advance(2_000)
  t.same((await storedSecrets(world)).map(sealedWith), [kid], 'although the store was away at that time')
  world.keyring.discard('secrets', old)
  await world.publish('1.delivered', PROJECT)
  await world.advance(1_000)
  t.ok(isSignedWith(world, secret))
  await world.advanceUntil(reseal.stop())
})

t.test('a secret whose key is gone posts nothing unsigned, says so, and stays as it is', async (t) => {
  const world = new WebhookWorld()
  await world.project(PROJECT)
  const stored = await storedSecrets(world)
  const old = world.keyring.activeKid('secrets')
  world.keyring.activate('secrets', world.keyring.add('secrets', 2), 2)
  world.keyring.discard('secrets', old)
  const { reseal } = await startReseal(world)
  await world.publish('1.delivered', PROJECT)
  await world.advance(2_000)
  t.same(world.received, [])
  t.match((await world.view(PROJECT)).state, { state: 'failing', lastError: 'secret_unreadable' })
  t.same(await storedSecrets(world), stored)
  await world.advanceUntil(reseal.stop())
})
