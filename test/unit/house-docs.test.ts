import { readFileSync } from 'node:fs'
import t from 'tap'
import { configReference } from '../../src/cli/config-reference.js'

t.test('docs/operate/configuration.md equals the reference made from the schema', async (t) => {
  const written = readFileSync('docs/operate/configuration.md', 'utf8')
  t.equal(written, configReference(), 'mend it with: npx borealis config reference > docs/operate/configuration.md')
})
