/** The documents name only settings, variables and metrics that exist. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { metricsOf } from '../../src/cli/metrics-reference.js'
import { ConfigSchema, settings } from '../../src/config/config.js'
import { Actions } from '../../src/core/tenants/auth/roles.js'
import { streamDefinitions } from '../../src/nats/server/streams.js'

/** Decision records and bench results describe an earlier state, so they may use earlier names. */
const HISTORY = /^(docs\/adr\/|bench\/results\/)/
const documents = execFileSync('git', ['ls-files', '--', '*.md'], { encoding: 'utf8' })
  .trim()
  .split('\n')
  .filter((path) => !HISTORY.test(path))

const sections = new Set(Object.keys(ConfigSchema.properties))
const paths = new Set([...settings.map(({ path }) => path), ...Object.keys(Actions)])
const variables = new Set([
  ...settings.map(({ variable }) => variable),
  // Variables that are no settings: of the settings file, of `borealis device`, of tests, and of deploy/haproxy.cfg.
  ...['BOREALIS_CONFIG', 'BOREALIS_ENROL_URL', 'BOREALIS_ENROLMENT_KEY', 'BOREALIS_TEST_WRITE_DOCS'],
  ...['BOREALIS_DEVICES', 'BOREALIS_API', 'BOREALIS_ONE', 'BOREALIS_TWO'],
  // Kubernetes sets these for a service named borealis.
  ...['BOREALIS_PORT', 'BOREALIS_SERVICE_HOST'],
])
const metrics = [...metricsOf('core'), ...metricsOf('transport')].map(({ name }) => name)
/** These documents name fields of results and of frames, which look like settings. */
const WITH_FIELDS = new Set(['docs/bench.md', 'protocol/PROTOCOL.md'])
/** `core.ts` is a file, not the setting `ts` of the section `core`. */
const FILE = /\.(ts|js|mjs|md|json|yaml|cfg|py|proto)$/

for (const document of documents) {
  t.test(`${document} names only existing settings, variables and metrics`, async (t) => {
    const text = readFileSync(document, 'utf8')
    const named = [...(WITH_FIELDS.has(document) ? '' : text).matchAll(/`([a-z]+[A-Za-z]*)\.([A-Za-z]+)`/g)]
      .filter(([, section = '']) => sections.has(section))
      .map(([, section, key]) => `${section}.${key}`)
      .filter((path) => !FILE.test(path))
    t.same(
      named.filter((path) => !paths.has(path)),
      [],
      'settings',
    )
    const used = [...text.matchAll(/\bBOREALIS_[A-Z_]+\b(?!\*)/g)].map(([name]) => name)
    t.same(
      used.filter((name) => !variables.has(name)),
      [],
      'variables',
    )
    const asked = [...text.matchAll(/`(borealis_[a-z_]+)(\*?)/g)]
    t.same(
      asked
        .filter(([, name = '', star]) => !metrics.some((known) => (star ? known.startsWith(name) : known === name)))
        .map(([, name]) => name),
      [],
      'metrics',
    )
  })
}

t.test('docs/operate/install.md states the size that the streams reserve by default', async (t) => {
  const defaults = Object.fromEntries(
    settings
      .filter(({ path }) => path.startsWith('store.'))
      .map(({ path, schema }) => [path.slice('store.'.length), schema.default]),
  )
  const bytes = streamDefinitions(defaults as unknown as Parameters<typeof streamDefinitions>[0]).reduce(
    (sum, { bytesMax }) => sum + bytesMax,
    0,
  )
  const size = `${(bytes / 2 ** 30).toFixed(1)} GiB`
  t.match(readFileSync('docs/operate/install.md', 'utf8'), size)
})
