/** Draws grouped horizontal bars and lines as SVG text. The report needs too little for a library. */

export interface BarGroup {
  label: string
  bars: { name: string; value: number }[]
}

export interface BarChart {
  title: string
  /** The unit of the bars, and whether less is better. */
  subtitle: string
  groups: BarGroup[]
}

export interface LineChart {
  title: string
  subtitle: string
  xLabel: string
  series: { name: string; points: { x: number; y: number }[] }[]
}

/** Colours that colour-blind readers can tell apart (Okabe and Ito). */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#7f7f7f']
const WIDTH = 720
const LABELS = 170
const VALUES = 90
const BAR = 18
const GAP = 10
const TOP = 64
const LEGEND = 22
const PLOT_HEIGHT = 260

export function barChart({ title, subtitle, groups }: BarChart): string {
  const names = [...new Set(groups.flatMap(({ bars }) => bars.map(({ name }) => name)))]
  const isGrouped = groups.some(({ bars }) => bars.length > 1)
  const max = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)), Number.MIN_VALUE)
  const room = WIDTH - LABELS - VALUES
  const parts: string[] = []
  let y = TOP + (isGrouped ? LEGEND : 0)
  for (const [g, { label, bars }] of groups.entries()) {
    const height = bars.length * BAR
    parts.push(text(LABELS - 8, y + height / 2 + 4, label, 'end'))
    for (const { name, value } of bars) {
      const width = Math.max(1, (value / max) * room)
      const colour = colourOf(isGrouped ? names.indexOf(name) : g)
      parts.push(`<rect x="${LABELS}" y="${y + 2}" width="${width.toFixed(1)}" height="${BAR - 4}" fill="${colour}"/>`)
      parts.push(text(LABELS + width + 6, y + BAR / 2 + 4, short(value)))
      y += BAR
    }
    y += GAP
  }
  return document(title, subtitle, y, [...(isGrouped ? legend(names) : []), ...parts])
}

export function lineChart({ title, subtitle, xLabel, series }: LineChart): string {
  const points = series.flatMap((one) => one.points)
  const xMax = Math.max(...points.map(({ x }) => x), Number.MIN_VALUE)
  const yMax = Math.max(...points.map(({ y }) => y), Number.MIN_VALUE) * 1.05
  const top = TOP + LEGEND
  const left = VALUES
  const room = WIDTH - left - 24
  const bottom = top + PLOT_HEIGHT
  const at = ({ x, y }: { x: number; y: number }) =>
    `${(left + (x / xMax) * room).toFixed(1)},${(bottom - (y / yMax) * PLOT_HEIGHT).toFixed(1)}`
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => {
    const y = bottom - share * PLOT_HEIGHT
    return [
      `<line x1="${left}" y1="${y}" x2="${left + room}" y2="${y}" stroke="#ddd"/>`,
      text(left - 6, y + 4, short(share * yMax), 'end'),
    ]
  })
  const lines = series.map(
    ({ points: own }, i) =>
      `<polyline points="${own.map(at).join(' ')}" fill="none" stroke="${colourOf(i)}" stroke-width="2"/>`,
  )
  const axis = [text(left + room, bottom + 20, `${xLabel}, to ${short(xMax)}`, 'end')]
  return document(title, subtitle, bottom + 32, [...legend(series.map(({ name }) => name)), ...grid, ...lines, ...axis])
}

function document(title: string, subtitle: string, height: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="16" y="26" font-size="16" font-weight="600" fill="#222">${escapeXml(title)}</text>`,
    text(16, 46, subtitle),
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

function legend(names: readonly string[]): string[] {
  let x = 16
  return names.flatMap((name, i) => {
    const at = x
    x += 34 + name.length * 7
    return [
      `<rect x="${at}" y="${TOP - 6}" width="12" height="12" fill="${colourOf(i)}"/>`,
      text(at + 17, TOP + 4, name),
    ]
  })
}

const colourOf = (i: number) => COLOURS[i % COLOURS.length] as string

function text(x: number, y: number, value: string, anchor: 'start' | 'end' = 'start'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" fill="#333">${escapeXml(value)}</text>`
}

function short(value: number): string {
  if (value >= 1e9) return `${Number((value / 1e9).toPrecision(3))} G`
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)))
}

function escapeXml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
