import t from 'tap'
import { createLogger, secretFields, withoutSecrets } from '../../src/observe/log.js'

const jwt = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJkZXYifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ'

function collect(format: 'json' | 'text') {
  const lines: string[] = []
  const log = createLogger('core', { level: 'info', format }, { write: (line) => lines.push(line) })
  return { log, lines }
}

t.test('a log line is one JSON object with level, time, part, message and fields', async (t) => {
  const { log, lines } = collect('json')
  log.warn({ stream: 'QUEUE_0' }, 'the store is away')
  log.debug('below the level')
  t.equal(lines.length, 1)
  t.match(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    part: 'core',
    stream: 'QUEUE_0',
    message: 'the store is away',
    time: /^\d{4}-\d\d-\d\dT/,
  })
})

t.test('the text format has the same fields on one line, and the stack of an error below it', async (t) => {
  const { log, lines } = collect('text')
  log.info({ port: 8080, reason: 'two words' }, 'listening')
  log.error({ error: new Error('gone') }, 'lost')
  t.match(lines[0], /^\d\d:\d\d:\d\d\.\d{3} info {2}core +listening port=8080 reason="two words"\n$/)
  t.match(lines[1], /lost error=gone\n {4}Error: gone\n {4,}at /)
})

t.test('secret fields at depths one to three are not written, in JSON and in text', async (t) => {
  for (const format of ['json', 'text'] as const) {
    const { log, lines } = collect(format)
    for (const field of secretFields) {
      log.info({ [field]: 'hunter22', a: { [field]: 'hunter22' }, b: { c: { [field]: 'hunter22' } } }, 'x')
    }
    t.equal(lines.length, secretFields.length)
    t.notMatch(lines.join(''), /hunter22/)
  }
})

t.test('credentials in URLs, Bearer tokens and JWTs are cut out of longer strings', async (t) => {
  const { log, lines } = collect('json')
  log.error({ error: new Error(`nats://core:hunter22@127.0.0.1:4222 refused Bearer ${jwt}`) }, `token ${jwt}`)
  t.notMatch(lines.join(''), /hunter22|eyJ/)
  t.match(lines[0], /nats:\/\/\[credentials\]@127\.0\.0\.1:4222/)
  t.equal(withoutSecrets('ws://127.0.0.1:8090/v1/device'), 'ws://127.0.0.1:8090/v1/device')
})

t.test('a line that is no log record passes the text format unchanged', async (t) => {
  const { formatLine } = await import('../../src/observe/log-text.js')
  t.equal(formatLine('FATAL: out of memory\n'), 'FATAL: out of memory\n')
  t.equal(formatLine('{"level":"in\n'), '{"level":"in\n')
})
