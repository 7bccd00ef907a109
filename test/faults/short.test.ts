import t from 'tap'
import { Cleanup } from '../../bench/cleanup.js'
import { inTurn } from './fault.js'
import { faultNamed } from './kinds/index.js'
import { runFault } from './run.js'

t.setTimeout(180_000)

t.test('kills of a worker, a core and nats-server under load violate no invariant', { timeout: 170_000 }, async (t) => {
  const kills = ['worker-kill', 'core-kill', 'nats-kill'].flatMap((name) => faultNamed(name) ?? [])
  t.equal(kills.length, 3)
  const cleanup = new Cleanup()
  t.teardown(() => cleanup.run((error) => t.comment(String(error))))
  const result = await runFault(inTurn('kills', kills), {
    ...{ injections: 3, seed: 1, devices: 24, pushesPerSecond: 15, haste: 5, keep: null, cleanup },
    say: (text) => t.comment(text),
  })
  t.same(result.violations, [])
  t.match(result, { injections: 3, lost: 0, appDuplicates: 0, phantoms: 0 })
  t.ok(
    result.accepted > 30 && result.targets > result.accepted,
    `the load accepted ${result.accepted} pushes for ${result.targets} targets`,
  )
})
