/** Small functions on maps and lists that several parts need. */

/** Deletes the oldest entries of a map until at most `sizeMax` remain. A Map keeps its entries in the order of insertion. */
export function evictOldest<K>(map: Map<K, unknown>, sizeMax: number): void {
  if (map.size <= sizeMax) return
  for (const key of map.keys()) {
    map.delete(key)
    if (map.size <= sizeMax) return
  }
}

/** Moves or adds an entry to the end of a map, so that evictOldest() takes the least recently used entry first. */
export function setNewest<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key)
  map.set(key, value)
}

/** The items of each key, in their order. */
export function groupBy<K, T>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  return groups
}

/**
 * Calls `work` for each item, with at most `atOnce` calls under way, and resolves with the results in the order of the
 * items. After a failure it begins no further call, waits for those under way, and rejects with the first failure.
 */
export async function mapAtOnce<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length)
  const failures: unknown[] = []
  let next = 0
  const lane = async () => {
    while (next < items.length && failures.length === 0) {
      const index = next++
      try {
        results[index] = await work(items[index] as T, index)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane))
  if (failures.length > 0) throw failures[0]
  return results
}
