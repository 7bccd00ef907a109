/** A timer wheel: due times of very many items without a timer for each. Times are those of performance.now(). */
const SLOT_MS = 50

export class Wheel<T> {
  readonly #slots = new Map<number, T[]>()
  /** The last slot that was taken. */
  #done = Math.floor(performance.now() / SLOT_MS)

  get isEmpty(): boolean {
    return this.#slots.size === 0
  }

  /** Makes `item` due at most one slot after `atMs`. A time in the past means the next slot. */
  at(atMs: number, item: T): void {
    const slot = Math.max(Math.ceil(atMs / SLOT_MS), this.#done + 1)
    const others = this.#slots.get(slot)
    if (others) others.push(item)
    else this.#slots.set(slot, [item])
  }

  /** Passes each due item to `each`, once. Items that are added meanwhile are due later. */
  take(nowMs: number, each: (item: T) => void): void {
    const current = Math.floor(nowMs / SLOT_MS)
    if (this.isEmpty) this.#done = Math.max(this.#done, current)
    while (this.#done < current) {
      const slot = ++this.#done
      const items = this.#slots.get(slot)
      if (!items) continue
      this.#slots.delete(slot)
      for (const item of items) each(item)
    }
  }
}
