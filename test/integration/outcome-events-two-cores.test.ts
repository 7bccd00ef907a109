/** The core that publishes outcomes is killed under load: the other core continues, and no event is lost. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { accessToken, createTenant, newRun, registerDevices, registrationIdOf } from '../../bench/system/fleet.js'
import { LocalSystem } from '../../bench/system/local-system.js'
import { systemClock } from '../../src/clock.js'
import { FeedAdministration } from '../../src/core/outcomes/feed-administration.js'
import { Administration } from '../../src/core/tenants/administration.js'
import { until } from '../support/api.js'
import { startReceiver } from '../support/receiver.js'

// The test starts several processes, on a machine that may be busy.
t.setTimeout(180_000)

const MESSAGES = 60

t.test(
  'when both cores are killed in turn, the outcome of each accepted message reaches the webhook under one id',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'borealis-two-cores-'))
    const webhooks = { allowHttp: true, allowedNetworks: '127.0.0.1', backoffMs: 50 }
    const system = await LocalSystem.start({
      folder: join(folder, 'system'),
      parts: ['core'],
      cores: 2,
      settings: { core: { leaseMs: 1_500, expiryBucketMs: 500 }, webhooks },
    })
    t.teardown(async () => {
      await system.stop()
      rmSync(folder, { recursive: true, force: true })
    })
    const broker = await system.brokerAs('core')
    const fleet = await createTenant(broker, newRun())
    await registerDevices(broker, fleet, { count: 1 })
    const token = await accessToken(system, broker, fleet)
    const receiver = await startReceiver(t)
    const feeds = new FeedAdministration({
      ...{ administration: new Administration(broker, systemClock), broker, clock: systemClock },
      ...{ split: system.config.store.split, settings: system.config.webhooks },
      secrets: () => system.keyring.secretsKeys,
    })
    const root = { name: 'cli:test', role: 'operator', projects: '*' } as const
    const set = await feeds.setWebhook(root, fleet.project, { url: receiver.url, kinds: ['expired'] })
    receiver.secrets = [set.secret ?? '']

    // No device is connected, so every accepted message expires.
    const accepted = new Set<string>()
    const send = async (n: number) => {
      const url = `${system.httpUrls[n % 2]}/push/public/api/v1/projects/${fleet.project}/messages`
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const body = JSON.stringify({ type: 'device', target: registrationIdOf(system, fleet, 0), ttl: '1s' })
      const response = await fetch(url, { method: 'POST', headers, body }).catch(() => null)
      if (response?.status === 202) accepted.add(((await response.json()) as { id: string }).id)
    }
    const ended = () => new Set(receiver.events.map(({ messageId }) => messageId))
    for (let n = 0; n < MESSAGES / 2; n++) await send(n)
    await receiver.until(() => ended().size > 0)
    // The cores are killed between a POST and its answer: the receiver has the events, and the core gets no answer.
    const [answer, posts] = [receiver.answer, receiver.posts.length]
    receiver.answer = () => {}
    for (let n = MESSAGES / 2; n < MESSAGES; n++) await send(n)
    await until('a POST waits for its answer', () => receiver.posts.length > posts)
    // The test does not know the core that has the lease. So it kills the first, and after its return the other.
    for (const index of [0, 1]) {
      const before = system.pids('core')[index]
      t.ok(system.kill('core', 'SIGKILL', index).length > 0)
      await until(
        'the killed core is back',
        () => system.pids('core').length === 2 && system.pids('core')[index] !== before,
      )
    }
    receiver.answer = answer
    await receiver.until(() => [...accepted].every((id) => ended().has(id)))
    t.ok(accepted.size > MESSAGES / 4, `${accepted.size} accepted`)
    const withoutAnswer = [...ended()].filter((id) => !accepted.has(id))
    t.ok(
      withoutAnswer.length <= MESSAGES - accepted.size,
      `${withoutAnswer.length} events of messages whose 202 was lost`,
    )
    for (const { id, messageId, kind } of receiver.events) t.equal(id, `${messageId}.${kind}`)
  },
)
