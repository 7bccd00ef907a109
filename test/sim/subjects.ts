/** Matches NATS subjects as the server does: `*` stands for one token, `>` at the end for one or more. */
const compiled = new Map<string, string[]>()
const COMPILED_MAX = 1_000

export function subjectMatches(filter: string, subject: string): boolean {
  if (filter === subject || filter === '>') return true
  if (!filter.includes('*') && !filter.endsWith('>')) return false
  let tokens = compiled.get(filter)
  if (!tokens) {
    tokens = filter.split('.')
    if (compiled.size >= COMPILED_MAX) compiled.clear()
    compiled.set(filter, tokens)
  }
  const given = subject.split('.')
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] === '>') return given.length > i
    if (i >= given.length || (tokens[i] !== '*' && tokens[i] !== given[i])) return false
  }
  return given.length === tokens.length
}
