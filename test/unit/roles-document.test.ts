import { readFileSync } from 'node:fs'
import t from 'tap'
import { Actions } from '../../src/core/tenants/auth/roles.js'

t.test('the table of roles in docs/operate/admin.md equals the actions in roles.ts', async (t) => {
  const rows = [
    ...readFileSync('docs/operate/admin.md', 'utf8').matchAll(/^\| `([a-z.]+)` \| ([a-z]+) \| ([a-z]+) \|$/gm),
  ]
  t.same(
    rows.map(([, action, least, of]) => [action, least, of]),
    Object.entries(Actions).map(([action, { least, of }]) => [action, least, of]),
  )
})
