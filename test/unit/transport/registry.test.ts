import t from 'tap'
import { Registry } from '../../../src/transport/session/registry.js'
import type { Session } from '../../../src/transport/session/session.js'

const sessionOf = (device: string): Session => ({ device, outgoing: null }) as unknown as Session

function registryOfThree() {
  const registry = new Registry()
  const [a, b, c] = ['a', 'b', 'c'].map(sessionOf) as [Session, Session, Session]
  for (const session of [a, b, c]) registry.add(session)
  return { registry, a }
}

t.test('the late close of a replaced session does not remove the newer session of its device', async (t) => {
  const { registry, a } = registryOfThree()
  const newer = sessionOf('a')
  registry.add(newer)
  t.equal(registry.remove(a), false)
  t.equal(registry.get('a'), newer)
  t.equal(registry.size, 3)
})

t.test('a walk in two parts visits each session', async (t) => {
  const { registry } = registryOfThree()
  const visited = new Set<string>()
  const rounds = registry.rounds()
  rounds.walk(2, ({ device }) => visited.add(device))
  rounds.walk(2, ({ device }) => visited.add(device))
  t.equal(visited.size, 3)
})

t.test('a walk that removes each session visits all of them', async (t) => {
  const { registry } = registryOfThree()
  registry.rounds().walk(10, (session) => registry.remove(session))
  t.equal(registry.size, 0)
})
