/** Tables of a profile's parts: ours beside those of the bare server. */
import type { Row } from '../scenario.js'
import type { Cost } from './cost.js'
import type { PartTime } from './parts.js'

export interface Sides {
  borealis: Cost
  bare: Cost
}

/** One row for each part of either side, sorted by our cost. */
export function partRows({ borealis, bare }: Sides): Row[] {
  const bareMicros = new Map(bare.parts.map(({ part, micros }) => [part, micros]))
  const ours = borealis.parts.map(({ part, micros, percent, functions }) => ({
    part,
    us: micros,
    '%': percent,
    'bare us': bareMicros.get(part) ?? '',
    functions: functions.map((one) => `${one.name} ${one.micros}`).join(', '),
  }))
  const known = new Set(borealis.parts.map(({ part }) => part))
  const theirs = bare.parts
    .filter(({ part }) => !known.has(part))
    .map(({ part, micros }) => ({ part, us: '', '%': '', 'bare us': micros, functions: '' }))
  return [...ours, ...theirs]
}

const FUNCTIONS_MAX = 5

/** The parts of one .cpuprofile: milliseconds, and their share of the busy time. */
export function timeRows(parts: readonly PartTime[], busyMicros: number): Row[] {
  const ms = (micros: number) => Math.round(micros / 1000)
  return parts.map(({ part, micros, functions }) => ({
    part,
    ms: ms(micros),
    '%': Number(((100 * micros) / busyMicros).toFixed(1)),
    functions: functions
      .slice(0, FUNCTIONS_MAX)
      .map((one) => `${one.name} ${ms(one.micros)}`)
      .join(', '),
  }))
}
