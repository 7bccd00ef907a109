/** Prints a session of protocol/vectors/sessions.json for PROTOCOL.md: number, sender, frames, bytes, meaning. */
import type { Session } from './sessions.js'

const INDENT = ' '.repeat(12)
const BYTES_A_LINE = 34

export function sessionBlock({ steps }: Pick<Session, 'steps'>): string {
  const lines = steps.flatMap((step, i) => {
    const head = `${String(i + 1).padStart(2)}  ${step.direction.padEnd(7)} `
    if ('close' in step) return [`${head}close ${step.close}`, `${INDENT}${step.meaning}`]
    const names = step.frames.map(({ type }) => type).join(', ') || 'empty message'
    const pairs = step.hex.match(/../g) ?? []
    const bytes: string[] = []
    for (let at = 0; at < pairs.length; at += BYTES_A_LINE) bytes.push(pairs.slice(at, at + BYTES_A_LINE).join(' '))
    return [`${head}${names}: ${step.meaning}`, ...bytes.map((line) => `${INDENT}${line}`)]
  })
  return ['```session', ...lines, '```'].join('\n')
}
