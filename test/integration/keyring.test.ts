/** The keyring of an installation, with the processes that use it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { run } from '../support/instance.js'

t.test('a core and a transport without a keyring name the file, end with an error, and make none', async (t) => {
  const folder = t.testdir()
  const file = join(folder, 'keyring.json')
  const extract = join(folder, 'keys.json')
  const expected = { code: 1, stderr: new RegExp(`${file}.*borealis keyring init.*keyring_missing`) }
  t.match(await run(['core'], { BOREALIS_KEYRING_FILE: file }), expected)
  t.match(await run(['transport'], { BOREALIS_KEYRING_FILE: file }), expected)
  t.match(await run(['transport'], { BOREALIS_KEYRING_TRANSPORT_FILE: extract }), {
    code: 1,
    stderr: new RegExp(`${extract}.*borealis keyring extract.*keyring_missing`),
  })
  t.match(await run(['keyring', 'init'], { BOREALIS_KEYRING_FILE: file }), { code: 0, stdout: /keyring: [0-9a-f]{16}/ })
  t.ok(existsSync(file))
})
