/** ARCHITECTURE.md against the code: "Find the file", and the diagram of a session. */
import { readFileSync } from 'node:fs'
import t from 'tap'

const architecture = readFileSync('ARCHITECTURE.md', 'utf8')

/** The text of a section, from its heading to the next one. */
function section(heading: string): string {
  const text = architecture.split(/^## /m).find((part) => part.startsWith(`${heading}\n`))
  if (text === undefined) throw new Error(`ARCHITECTURE.md has no section ${heading}`)
  return text
}

t.test('each question of "Find the file" is answered by the file and the phrase that it names', async (t) => {
  const rows = [...section('Find the file').matchAll(/^\| (.+\?) \| \[[^\]]+\]\(([^)]+)\) \| `([^`]+)` \|$/gm)]
  t.ok(rows.length >= 10, 'at least ten questions')
  t.equal(rows.length, section('Find the file').match(/\? \|/g)?.length, 'every row has a link and a phrase')
  for (const [, question, path, phrase] of rows) {
    t.match(readFileSync(path ?? '', 'utf8'), phrase ?? '', `${question} ${path}: ${phrase}`)
  }
})

t.test('the diagram of a session has the transitions of the table in session.ts', async (t) => {
  const drawn = [...section('The session of a device').matchAll(/^ +(\S+) --> (\S+): /gm)].map(
    ([, from, to]) => `${from} -> ${to}`,
  )
  t.same(drawn.sort(), transitionsOfTable(readFileSync('src/transport/session/session.ts', 'utf8')).sort())
})

const STATES = ['claiming', 'reading', 'behind', 'live']

/**
 * The table is a comment; two spaces or more separate its cells: state, input, next, effects. A state cell may name several
 * states, on one line or on two. Rows with fewer cells continue the row above; rows that stay in their state are no transitions.
 */
function transitionsOfTable(source: string): string[] {
  const lines = source.slice(0, source.indexOf('*/')).split('\n')
  const begin = lines.findIndex((line) => / -{5,} +-{5,} /.test(line)) + 1
  const rows = lines.slice(begin, lines.indexOf(' *', begin)).map((line) => line.slice(2).trim().split(/ {2,}/))
  const transitions = new Set<string>()
  let states: string[] = []
  let isSecondOfPair = false
  for (const [index, [state = '', , next]] of rows.entries()) {
    if (!isSecondOfPair && next !== undefined && state !== '"') states = statesOf(state)
    const isFirstOfPair = state.endsWith(',')
    if (isFirstOfPair) states.push(...statesOf(rows[index + 1]?.[0] ?? ''))
    isSecondOfPair = isFirstOfPair
    if (next === undefined || next === 'the same') continue
    for (const from of states) if (next !== from) transitions.add(`${from} -> ${next}`)
  }
  return [...transitions]
}

function statesOf(cell: string): string[] {
  if (cell === '(none)') return ['[*]']
  if (cell === 'any') return STATES
  return STATES.filter((state) => new RegExp(`\\b${state}\\b`).test(cell) && !cell.includes('not '))
}
