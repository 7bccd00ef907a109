/** The figures of two builds over several rounds: medians, spread and ratio. */
import Type, { type Static } from 'typebox'
import { median, significant } from '../measure/stats.js'
import type { Row } from '../scenario.js'
import { cell, rowsOf } from '../table.js'

const Spread = Type.Object({ median: Type.Number(), min: Type.Number(), max: Type.Number() })
type Spread = Static<typeof Spread>

const Figure = Type.Object({
  tree: Spread,
  commit: Spread,
  /** Median of this tree divided by the median of the commit. Null: the commit's is 0. */
  ratioToCommit: Type.Union([Type.Number(), Type.Null()]),
  /** The same division within each round: how far noise alone moves it. Null: a value of the commit is 0. */
  roundRatios: Type.Union([Type.Object({ min: Type.Number(), max: Type.Number() }), Type.Null()]),
})
type Figure = Static<typeof Figure>

/** Figures by their path in a result, such as `latencyMs.p99`. */
const Values = Type.Record(Type.String(), Type.Number())
export type Values = Static<typeof Values>

export const Comparison = Type.Object({
  /** The scenario that both builds ran. */
  of: Type.String(),
  /** This tree, with `-dirty` if it has changes that no commit has. */
  tree: Type.String(),
  commit: Type.String(),
  figures: Type.Record(Type.String(), Figure),
  /** Figures that only one of the two has, or that have no value in some round. */
  notCompared: Type.Array(Type.String()),
  /** One element for each round, in the order in which they ran: this tree first, then the commit. */
  rounds: Type.Array(Type.Object({ tree: Values, commit: Values })),
})
export type Comparison = Static<typeof Comparison>

export interface Round {
  tree: Values
  commit: Values
}

/** All numbers of a result except for those in arrays, which are samples and rounds of their own. */
export function valuesOf(result: Record<string, unknown>): Values {
  const numbers = rowsOf(result).filter(({ field, value }) => typeof value === 'number' && !`${field}`.includes('['))
  return Object.fromEntries(numbers.map(({ field, value }) => [`${field}`, value as number]))
}

export function compareRounds(rounds: readonly Round[]): Pick<Comparison, 'figures' | 'notCompared'> {
  const sides = rounds.flatMap(({ tree, commit }) => [tree, commit])
  const names = [...new Set(sides.flatMap((values) => Object.keys(values)))]
  const isEverywhere = (name: string) => sides.every((values) => values[name] !== undefined)
  const figures = names.filter(isEverywhere).map((name) => [name, figureOf(rounds, name)] as const)
  return { figures: Object.fromEntries(figures), notCompared: names.filter((name) => !isEverywhere(name)) }
}

function figureOf(rounds: readonly Round[], name: string): Figure {
  const pairs = rounds.map(({ tree, commit }) => ({ tree: tree[name] as number, commit: commit[name] as number }))
  const tree = spreadOf(pairs.map((pair) => pair.tree))
  const commit = spreadOf(pairs.map((pair) => pair.commit))
  const ratios = pairs.map((pair) => pair.tree / pair.commit)
  const isDefined = pairs.every((pair) => pair.commit !== 0)
  return {
    tree,
    commit,
    ratioToCommit: commit.median === 0 ? null : significant(tree.median / commit.median, 4),
    roundRatios: isDefined
      ? { min: significant(Math.min(...ratios), 4), max: significant(Math.max(...ratios), 4) }
      : null,
  }
}

function spreadOf(values: readonly number[]): Spread {
  return { median: significant(median(values), 6), min: Math.min(...values), max: Math.max(...values) }
}

/** One row for each figure; `headline` names those that are shown, absent: all. */
export function comparisonRows(comparison: Comparison, headline?: readonly string[]): Row[] {
  const short = comparison.commit.slice(0, 12)
  return Object.entries(comparison.figures)
    .filter(([name]) => headline === undefined || headline.includes(name))
    .map(([figure, { tree, commit, ratioToCommit, roundRatios }]) => ({
      figure,
      'this tree': spreadText(tree),
      [`commit ${short}`]: spreadText(commit),
      ratio: ratioToCommit ?? '-',
      'ratio in each round': roundRatios === null ? '-' : `${cell(roundRatios.min)}..${cell(roundRatios.max)}`,
    }))
}

const spreadText = ({ median, min, max }: Spread) => `${cell(median)} (${cell(min)}..${cell(max)})`
