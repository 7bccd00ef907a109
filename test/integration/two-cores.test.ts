/** Two core processes share the work, and one of them is killed under load. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { accessToken, createTenant, newRun, registerDevices, registrationIdOf } from '../../bench/system/fleet.js'
import { LocalSystem } from '../../bench/system/local-system.js'
import { messagesStream } from '../../protocol/subjects.js'

// The test starts several processes, on a machine that may be busy.
t.setTimeout(180_000)

const DEVICES = 40

t.test('when one of two cores is killed under load', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-two-cores-'))
  const system = await LocalSystem.start({
    folder: join(folder, 'system'),
    parts: ['core'],
    cores: 2,
    settings: { core: { leaseMs: 1_500, ackWaitMs: 4_000 } },
  })
  t.teardown(async () => {
    await system.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  const broker = await system.brokerAs('core')
  const fleet = await createTenant(broker, newRun())
  await registerDevices(broker, fleet, { count: DEVICES })
  const token = await accessToken(system, broker, fleet)
  const ask = async (url: string | undefined, path: string, body?: object) => {
    const response = await fetch(`${url}/push/public/api/v1/projects/${fleet.project}/messages${path}`, {
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const accepted: string[] = []
  let unanswered = 0
  const send = async (n: number) => {
    const url = system.httpUrls[n % 2]
    const message = { type: 'device', target: registrationIdOf(system, fleet, n % DEVICES), ttl: '1h' }
    const answer = await ask(url, '', message).catch(() => null)
    if (answer?.status === 202) accepted.push(String(answer.body.id))
    else unanswered++
  }
  const before = system.pids('core')
  t.equal(before.length, 2)
  for (let n = 0; n < 60; n++) await send(n)
  t.equal(unanswered, 0, 'before the kill both cores answer')
  const [killed] = system.kill('core', 'SIGKILL', 0)
  t.ok(killed)

  await t.test('the other accepts messages', async (t) => {
    for (let n = 60; n < 200; n++) await send(n)
    t.ok(accepted.length >= 100, `${accepted.length} accepted, ${unanswered} not answered`)
  })

  // No device is connected, so each accepted message waits in the queue of its device when it is routed.
  const admin = await system.brokerAs('admin')
  const names = Array.from({ length: system.config.store.split }, (_, index) => messagesStream(index))
  const unrouted = async () => {
    const states = await Promise.all(names.map((name) => admin.log(name).state()))
    return states.reduce((sum, { messages }) => sum + messages, 0)
  }
  const deadlineMs = Date.now() + 60_000
  await t.test('the other routes the messages of its streams', async (t) => {
    while ((await unrouted()) > 0 && Date.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 100))
    t.equal(await unrouted(), 0)
  })

  await t.test('each accepted message waits in the queue of its device', async (t) => {
    const lost: string[] = []
    for (const id of accepted) {
      const { status, body } = await ask(system.httpUrls[1], `/${id}`)
      const [waiting] = (body.waiting ?? []) as { why: string }[]
      if (status !== 200 || waiting?.why !== 'offline') lost.push(id)
    }
    t.same(lost, [])
  })

  await t.test('the killed core is started again', async (t) => {
    while (system.pids('core').length < 2 && Date.now() < deadlineMs + 30_000)
      await new Promise((resolve) => setTimeout(resolve, 100))
    t.equal(system.pids('core').length, 2)
  })
})
