import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { Errors } from '../../protocol/errors.js'
import { errorsDocument } from '../support/errors-document.js'

t.test('docs/send/errors.md equals the document made from the registry of errors', async (t) => {
  if (process.env.BOREALIS_TEST_WRITE_DOCS) writeFileSync('docs/send/errors.md', errorsDocument())
  const written = readFileSync('docs/send/errors.md', 'utf8')
  t.equal(
    written,
    errorsDocument(),
    'mend it with: BOREALIS_TEST_WRITE_DOCS=1 node dist/test/unit/errors-document.test.js',
  )
  for (const code of Object.keys(Errors)) t.ok(written.includes(`| \`${code}\` |`), code)
})

t.test('each error has a status that fits its owner: 4xx of the caller, 5xx of us', async (t) => {
  for (const [code, { http, owner }] of Object.entries(Errors)) {
    t.match(code, /^[a-z_]+$/)
    if (owner === 'us') t.ok(http >= 500, `${code}: our fault is a 5xx`)
    if (owner === 'caller') t.ok(http >= 400 && http < 500, `${code}: the caller's fault is a 4xx`)
  }
})

t.test('each error code is expected by a test of the API', async (t) => {
  const folder = 'test/integration'
  const files = readdirSync(folder).filter((name) => /^(api|admin|front)-.*\.test\.ts$/.test(name))
  const text = files.map((name) => readFileSync(`${folder}/${name}`, 'utf8')).join('')
  t.same(
    Object.keys(Errors).filter((code) => !new RegExp(`['"]${code}['"]`).test(text)),
    [],
  )
})
