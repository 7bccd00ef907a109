/** Resume tickets by slot, in a few large buffers: a Uint8Array for each would take as much memory as its bytes. */
const SLOTS_PER_BLOCK = 1_024
/** One byte for the length, then the ticket. A longer ticket (of a long instance name) is kept in a map. */
const SLOT_BYTES = 160

export class Tickets {
  readonly #blocks: (Buffer | undefined)[] = []
  readonly #long = new Map<number, Uint8Array>()

  set(slot: number, ticket: Uint8Array): void {
    this.#long.delete(slot)
    if (ticket.length >= SLOT_BYTES) this.#long.set(slot, Uint8Array.from(ticket))
    const { block, at } = this.#place(slot)
    const isHere = ticket.length < SLOT_BYTES
    block[at] = isHere ? ticket.length : 0
    if (isHere) block.set(ticket, at + 1)
  }

  forget(slot: number): void {
    this.set(slot, new Uint8Array())
  }

  /** Null: there is none. The result is valid until the next set(). */
  get(slot: number): Uint8Array | null {
    const long = this.#long.get(slot)
    if (long) return long
    const { block, at } = this.#place(slot)
    const length = block[at] as number
    return length === 0 ? null : block.subarray(at + 1, at + 1 + length)
  }

  #place(slot: number): { block: Buffer; at: number } {
    const number = Math.floor(slot / SLOTS_PER_BLOCK)
    const block = this.#blocks[number] ?? Buffer.alloc(SLOTS_PER_BLOCK * SLOT_BYTES)
    this.#blocks[number] = block
    return { block, at: (slot % SLOTS_PER_BLOCK) * SLOT_BYTES }
  }
}
