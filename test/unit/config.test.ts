import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { type ConfigError, readConfig, settings } from '../../src/config/config.js'
import { serviceLinksIn } from '../../src/config/service-links.js'
import { expectation } from '../../src/core/domain/schema.js'

const folder = mkdtempSync(join(tmpdir(), 'borealis-config-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let files = 0

function yaml(text: string): string {
  files += 1
  const file = join(folder, `${files}.yaml`)
  writeFileSync(file, text)
  return file
}

function problemsOf(sources: Parameters<typeof readConfig>[0]): Record<string, string> {
  try {
    readConfig(sources)
  } catch (error) {
    const { problems } = error as ConfigError
    return Object.fromEntries(problems.map(({ path, source, message }) => [path, `${source}: ${message}`]))
  }
  return {}
}

t.test('without a file and without variables, every setting has its default', async (t) => {
  const config = readConfig({ environment: {} })
  t.equal(config.log.level, 'info')
  t.equal(config.metrics.port, 0)
})

t.test('a variable overrides the file, and the file overrides the default', async (t) => {
  const file = yaml('log:\n  level: warn\n  format: json\nmetrics:\n')
  const config = readConfig({ file, environment: { BOREALIS_LOG_LEVEL: 'debug', BOREALIS_METRICS_PORT: '9100' } })
  t.equal(config.log.level, 'debug')
  t.equal(config.log.format, 'json')
  t.equal(config.metrics.port, 9100)
})

t.test('a setting under its old name is refused with its new name, in the file and in the environment', async (t) => {
  const file = yaml('core:\n  parkedMax: 5\n  notifying: false\n')
  t.same(problemsOf({ file, environment: { BOREALIS_TRANSPORT_FABRIC_TIMEOUT_MS: '5' } }), {
    'core.parkedMax': `${file}: this setting is now called core.queueMax`,
    'core.notifying': `${file}: this setting is now called core.publishing`,
    BOREALIS_TRANSPORT_FABRIC_TIMEOUT_MS: 'environment: this setting is now called BOREALIS_TRANSPORT_CORE_TIMEOUT_MS',
  })
})

t.test('BOREALIS_CONFIG names the file that is read', async (t) => {
  const file = yaml('log:\n  level: error\n')
  t.equal(readConfig({ environment: { BOREALIS_CONFIG: file } }).log.level, 'error')
})

t.test('a file that does not exist is reported as a mistake', async (t) => {
  t.same(problemsOf({ file: '/nowhere/b.yaml', environment: {} }), {
    '/nowhere/b.yaml': 'file: there is no such file',
  })
})

t.test('all mistakes are reported together, each with its path, source and expectation', async (t) => {
  const file = yaml('log:\n  level: loud\n  colour: red\nnonsense: {}\nmetrics: 7\nhttp:\n  port: 70000\n')
  t.same(problemsOf({ file, environment: { BOREALIS_START_NATS_PORT: 'x', BOREALIS_LOGLEVEL: 'info' } }), {
    'log.level': `${file}: expected one of fatal, error, warn, info, debug, trace, silent, found "loud"`,
    'log.colour': `${file}: there is no such setting`,
    nonsense: `${file}: there is no such setting`,
    metrics: `${file}: expected a section, found 7`,
    'http.port': `${file}: expected an integer from 0 to 65535, found 70000`,
    'start.natsPort': 'BOREALIS_START_NATS_PORT: expected an integer from 0 to 65535, found "x"',
    BOREALIS_LOGLEVEL: 'environment: there is no such setting',
  })
})

t.test('thirty mistakes are all reported, which is more than the validator lists by default', async (t) => {
  const wrong = settings.filter(({ schema }) => schema.type === 'integer').slice(0, 30)
  const environment = Object.fromEntries(wrong.map(({ variable }) => [variable, 'many']))
  t.equal(Object.keys(problemsOf({ environment })).length, 30)
})

t.test('a file that holds a list, or is not YAML, is reported as one mistake', async (t) => {
  t.match(Object.values(problemsOf({ file: yaml('- a\n- b\n'), environment: {} })), [/expected sections/])
  t.match(Object.values(problemsOf({ file: yaml('a: [\n'), environment: {} })), [/not YAML/])
})

t.test('each setting has a variable of its own, a default and a description', async (t) => {
  t.equal(new Set(settings.map(({ variable }) => variable)).size, settings.length)
  for (const { path, variable, schema } of settings) {
    t.match(variable, /^BOREALIS_[A-Z0-9_]+$/, path)
    t.not(schema.default, undefined, `${path} has a default`)
    t.ok(schema.description, `${path} has a description`)
    t.ok(expectation(schema), `${path} says what it expects`)
  }
})

t.test(
  'the variables that Kubernetes sets for a service named borealis or borealis-transport are ignored',
  async (t) => {
    const links = {
      BOREALIS_SERVICE_HOST: '10.96.0.7',
      BOREALIS_SERVICE_PORT: '8080',
      BOREALIS_SERVICE_PORT_HTTP: '8080',
      BOREALIS_PORT: 'tcp://10.96.0.7:8080',
      BOREALIS_PORT_8080_TCP: 'tcp://10.96.0.7:8080',
      BOREALIS_PORT_8080_TCP_PROTO: 'tcp',
      BOREALIS_PORT_8080_TCP_PORT: '8080',
      BOREALIS_PORT_8080_TCP_ADDR: '10.96.0.7',
      BOREALIS_TRANSPORT_SERVICE_HOST: 'fd00::7',
      BOREALIS_TRANSPORT_PORT: 'tcp://[fd00::7]:8090',
    }
    const config = readConfig({ environment: links })
    t.equal(config.transport.port, readConfig({ environment: {} }).transport.port)
    t.same(serviceLinksIn({ ...links, BOREALIS_LOG_LEVEL: 'info', OTHER_PORT: 'tcp://10.0.0.1:1' }), Object.keys(links))
  },
)

t.test('a misspelt setting that resembles a service link is refused', async (t) => {
  for (const [name, value] of [
    ['BOREALIS_PORT', '8080'],
    ['BOREALIS_HTTP_PROT', '8080'],
    ['BOREALIS_SERVICE_HOST', 'push.example.com'],
    ['BOREALIS_PORT_8080_TCP', '8080'],
    ['BOREALIS_NATS_URLS', 'tcp://10.0.0.1:4222'],
  ] as const) {
    t.match(problemsOf({ environment: { [name]: value } }), { [name]: 'environment: there is no such setting' }, name)
  }
  t.match(problemsOf({ environment: { BOREALIS_HTTP_PORT: 'tcp' } }), { 'http.port': /found "tcp"/ })
})
