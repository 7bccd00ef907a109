import { readFileSync } from 'node:fs'
import t from 'tap'
import { DeviceErrors } from '../../src/device/errors.js'

const text = readFileSync('docs/device.md', 'utf8')

t.test('docs/device.md has the errors as the code has them', async (t) => {
  const rows = text.slice(text.indexOf('## Errors')).match(/^\| `.*$/gm)
  const wanted = Object.entries(DeviceErrors).map(
    ([code, { meaning, next }]) => `| \`${code}\` | ${meaning} | ${next} |`,
  )
  t.same(rows, wanted)
})

t.test('docs/device.md names every event of the client', async (t) => {
  const source = readFileSync('src/device/client.ts', 'utf8')
  const events = source.slice(source.indexOf('interface ClientEvents'), source.indexOf('interface ClientOptions'))
  const names = [...events.matchAll(/^ {2}(\w+): \[/gm)].map(([, name]) => name ?? '')
  t.equal(names.length, 8)
  for (const name of names) t.match(text, `| \`${name}\` |`)
})
