import { readFileSync } from 'node:fs'
import t from 'tap'
import { Actions } from '../../src/core/tenants/auth/roles.js'

t.test('the table of roles in docs/operate/admin.md equals the actions in roles.ts', async (t) => {
  const rows = [
    ...readFileSync('docs/operate/admin.md', 'utf8').matchAll(/^\| `([a-z.]+)` \| ([a-z]+) \| ([a-z]+) \|$/gm),
  ]
  t.same(
    rows.map(([, action, role, scope]) => [action, role, scope]),
    Object.entries(Actions).map(([action, { roleMin, scope }]) => [action, roleMin, scope]),
  )
})
