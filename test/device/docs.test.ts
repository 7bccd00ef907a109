import { readFileSync } from 'node:fs'
import t from 'tap'
import { Close } from '../../protocol/close-codes.js'
import { DeviceRequestErrors } from '../../protocol/errors.js'
import { DeviceError, DeviceErrors } from '../../src/device/errors.js'

const text = readFileSync('docs/receive/device-library.md', 'utf8')

t.test('the error table of docs/receive/device-library.md equals the errors of the code', async (t) => {
  const rows = text.slice(text.indexOf('## Errors')).match(/^\| `.*$/gm)
  const wanted = Object.entries(DeviceErrors).map(
    ([code, { meaning, next }]) => `| \`${code}\` | ${meaning} | ${next} |`,
  )
  t.same(rows, wanted)
})

t.test('docs/receive/device-library.md names every event of the client', async (t) => {
  const source = readFileSync('src/device/client.ts', 'utf8')
  const events = source.slice(source.indexOf('interface ClientEvents'), source.indexOf('interface ClientOptions'))
  const names = [...events.matchAll(/^ {2}(\w+): \[/gm)].map(([, name]) => name ?? '')
  t.equal(names.length, 9)
  for (const name of names) t.match(text, `| \`${name}\` |`)
})

t.test('the next step of an error depends on the code of the server', async (t) => {
  const nextOf = (code: 'closed_by_server' | 'request_refused', serverCode: string) =>
    new DeviceError(code, undefined, { serverCode }).next
  for (const [name, { next }] of Object.entries(Close)) {
    const needsAction = nextOf('closed_by_server', name) !== 'nothing: the device reconnects by itself'
    t.equal(needsAction, next === 'stop' || next === 'renew', name)
    t.not(nextOf('closed_by_server', name), DeviceErrors.closed_by_server.next, name)
  }
  for (const code of Object.keys(DeviceRequestErrors)) {
    t.not(nextOf('request_refused', code), DeviceErrors.request_refused.next, code)
  }
  t.equal(nextOf('request_refused', 'of_a_later_version'), DeviceErrors.request_refused.next)
})
