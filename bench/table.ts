/** Formats a result as a table of aligned text. */
import type { Row } from './scenario.js'

export function textTable(rows: readonly Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const cells = [names, ...rows.map((row) => names.map((name) => cell(row[name])))]
  const widths = names.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)))
  return cells
    .map((line) => line.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('')
}

export function cell(value: string | number | undefined): string {
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(4)))
}

/** One row for each number and text of a result. The name of a nested field is its path, such as `latencyMs.p99`. */
export function rowsOf(result: Record<string, unknown>, prefix = ''): Row[] {
  return Object.entries(result).flatMap(([name, value]): Row[] => {
    if (Array.isArray(value)) return value.flatMap((one, i) => rowsOf({ [`${name}[${i}]`]: one }, prefix))
    if (typeof value === 'object' && value !== null) {
      return rowsOf(value as Record<string, unknown>, `${prefix}${name}.`)
    }
    return [{ field: `${prefix}${name}`, value: typeof value === 'number' ? value : String(value) }]
  })
}
