/** Formats a JSON log line for people: `12:00:01.123 warn  transport/0  message  key=value`. */
export function formatLine(line: string): string {
  const fields = parseFields(line)
  if (fields === null) return line
  const { time, level, part, message, error, err, ...rest } = fields
  const clock = typeof time === 'string' ? time.slice(11, 23) : ''
  const words = [clock, String(level ?? '').padEnd(5), String(part ?? '').padEnd(12), String(message ?? '')]
  const details = Object.entries(rest).map(([key, value]) => `${key}=${formatValue(value)}`)
  const failure = formatError(error ?? err)
  return `${[...words, ...details, ...(failure === '' ? [] : [failure])].join(' ').trimEnd()}\n`
}

/** The fields of a line from the log of one of our processes; null for every other line. */
export function parseFields(line: string): Record<string, unknown> | null {
  if (!line.startsWith('{')) return null
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    // Not a log line, for example one cut short by a crash. The caller shows it unchanged.
    return null
  }
}

function formatValue(value: unknown): string {
  if (typeof value === 'string') return /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value)
  return JSON.stringify(value) ?? String(value)
}

function formatError(error: unknown): string {
  if (error === undefined) return ''
  if (typeof error !== 'object' || error === null) return `error=${formatValue(error)}`
  const { message, stack } = error as { message?: unknown; stack?: unknown }
  const summary = `error=${formatValue(String(message ?? 'unknown'))}`
  return typeof stack === 'string' ? `${summary}\n${stack.replace(/^/gm, '    ')}` : summary
}
