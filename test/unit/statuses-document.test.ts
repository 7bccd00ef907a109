/** docs/send/statuses.md has each status word of the API, each at the place where the API uses it, and no other word. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { AcceptedMessage, ValidMessage } from '../../src/core/api/public/schemas.js'
import {
  LISTED_STATUSES,
  MESSAGE_STATUSES,
  ONLY_NOW_REASONS,
  QUEUE_REASONS,
  TRACE_STEPS,
  WAITING_REASONS,
} from '../../src/core/domain/statuses.js'
import { COUNTED } from '../../src/store/counters.js'
import { FINAL_KINDS } from '../../src/store/events.js'

const text = readFileSync('docs/send/statuses.md', 'utf8')

/** The rows of the table whose header begins with `header`, as cells without code marks. */
function tableOf(header: string): string[][] {
  const lines = text.split('\n')
  const first = lines.findIndex((line) => line.startsWith(header))
  if (first < 0) throw new Error(`no table begins with ${header}`)
  const length = lines.slice(first).findIndex((line) => !line.startsWith('|'))
  return lines.slice(first + 2, first + length).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

const sorted = (words: readonly string[]) => [...words].sort()

t.test('each status word is marked in the columns of the places where the API uses it', async (t) => {
  const rows = tableOf('| word |')
  const marked = (column: number) => rows.filter((row) => row[column] === 'x').map(([word]) => word ?? '')
  const sending = [...AcceptedMessage.properties.status.enum, ValidMessage.properties.status.const]
  t.same(sorted(marked(1)), sorted(sending), 'the answer to sending')
  t.same(sorted(marked(2)), sorted(MESSAGE_STATUSES), 'the status of one message')
  t.same(sorted(marked(3)), sorted(LISTED_STATUSES), 'the status in the list')
  t.same(sorted(marked(4)), sorted(TRACE_STEPS), 'the steps of a trace')
  t.same(sorted(marked(5)), sorted([...COUNTED, 'pending', 'sent']), 'the keys of counts')
  t.same(sorted(marked(6)), sorted(FINAL_KINDS), 'the kinds of events')
  for (const [word, ...cells] of rows) t.ok(cells.includes('x'), `${word} appears somewhere`)
})

t.test('each reason of a trace has a row', async (t) => {
  const rows = tableOf('| step | reason |')
  const reasonsOf = (step: string) => rows.filter(([name]) => name === step).map(([, reason]) => reason ?? '')
  t.same(sorted(reasonsOf('queued')), sorted(QUEUE_REASONS))
  t.same(sorted(reasonsOf('expired')), sorted(ONLY_NOW_REASONS))
  for (const [step] of rows) t.ok((TRACE_STEPS as readonly string[]).includes(step ?? ''), `${step} is a step`)
})

t.test('each reason for which a target waits has a row', async (t) => {
  t.same(sorted(tableOf('| why |').map(([why]) => why ?? '')), sorted(WAITING_REASONS))
})
