/** The random sources of a run: each plan has a stream of its own, so that seed and plan number repeat a surprise. */
import { type Random, seeded } from '../sim/random.js'

export type { Random }

const GOLDEN = 0x9e3779b9

export const streamOf = (seed: number, number: number): Random => seeded(Math.imul(number + 1, GOLDEN) ^ seed)

/** An integer from 0 to `count` - 1. */
export const below = (random: Random, count: number): number => Math.floor(random() * count)

export function pick<T>(random: Random, list: readonly T[]): T {
  const item = list[below(random, list.length)]
  if (item === undefined) throw new RangeError('pick needs at least one item')
  return item
}

export function noise(random: Random, bytes: number): Uint8Array {
  const made = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at++) made[at] = below(random, 256)
  return made
}

export interface Weighted<T> {
  weight: number
  item: T
}

export function weighted<T>(random: Random, list: readonly Weighted<T>[]): T {
  let left = random() * list.reduce((sum, { weight }) => sum + weight, 0)
  for (const { weight, item } of list) {
    left -= weight
    if (left < 0) return item
  }
  return pick(random, list).item
}
