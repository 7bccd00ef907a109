/**
 * Message ids: 63 bits, ordered by time, unique without coordination between core processes.
 *
 *   bit 62..22  milliseconds since 2024-01-01 (41 bits: until 2093)
 *   bit 21..16  partition of the target (6 bits)
 *   bit 15..8   node number of the core process that made the id (8 bits, held by lease)
 *   bit  7..0   counter within the millisecond, partition and node
 *
 * The id contains the partition, so that the events of a message can be read by subject, without an index.
 * In code an id is a bigint, on the wire a fixed64, in JSON a decimal string.
 */
export type MessageId = bigint

const EPOCH_MS = Date.UTC(2024, 0, 1)

/** The number of partitions. The subjects of a device contain its partition as a token. */
export const PARTITIONS = 64

/** The number of node numbers. */
export const NODES = 256

const COUNTER_MAX = 255

/** The number of ids of each partition in a block of MessageIdSource.nextBlock(). */
export const ID_BLOCK = COUNTER_MAX + 1

/** The partition of a device, or of any other routing key: FNV-1a, 32 bit, modulo PARTITIONS. */
export function partitionOf(key: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) {
    hash ^= key.charCodeAt(i)
    hash = Math.imul(hash, 0x01000193)
  }
  return (hash >>> 0) % PARTITIONS
}

export function partitionOfId(id: MessageId): number {
  return Number((id >> 16n) & 63n)
}

/** The time when the id was made, in Unix milliseconds; a little later if the ids of a millisecond were used up. */
export function timeOfId(id: MessageId): number {
  return Number(id >> 22n) + EPOCH_MS
}

/** An id of a block. @param place index in the block, taken modulo ID_BLOCK. */
export function blockId(block: MessageId, partition: number, place: number): MessageId {
  return block | BigInt((partition << 16) | (place % ID_BLOCK))
}

/** Parses the decimal form of JSON; null if the text is not a message id. */
export function parseMessageId(text: string): MessageId | null {
  if (!/^[1-9][0-9]{0,18}$/.test(text)) return null
  const id = BigInt(text)
  return id < 1n << 63n ? id : null
}

/**
 * Makes ids for one node. The ids of one partition strictly increase, also when the clock steps back. When the 256 ids
 * of a millisecond are used up, those of the next millisecond follow.
 */
export class MessageIdSource {
  private readonly lastMs = new Float64Array(PARTITIONS)
  private readonly counter = new Uint8Array(PARTITIONS)

  constructor(
    private readonly node: number,
    private readonly now: () => number,
  ) {
    if (!Number.isInteger(node) || node < 0 || node >= NODES)
      throw new RangeError(`node ${node} is outside 0..${NODES - 1}`)
  }

  next(partition: number): MessageId {
    if (!Number.isInteger(partition) || partition < 0 || partition >= PARTITIONS) {
      throw new RangeError(`partition ${partition} is outside 0..${PARTITIONS - 1}`)
    }
    // With fractions the counter would start anew within a millisecond, and ids would repeat.
    const ms = Math.max(Math.floor(this.now()) - EPOCH_MS, 1)
    const last = this.lastMs[partition] as number
    const count = this.counter[partition] as number
    if (ms > last) {
      this.lastMs[partition] = ms
      this.counter[partition] = 0
    } else if (count === COUNTER_MAX) {
      this.lastMs[partition] = last + 1
      this.counter[partition] = 0
    } else {
      this.counter[partition] = count + 1
    }
    const time = BigInt(this.lastMs[partition] as number)
    return (time << 22n) | BigInt((partition << 16) | (this.node << 8) | (this.counter[partition] as number))
  }

  /**
   * Reserves a millisecond from which this source makes no other ids, and returns its id of partition 0 and counter 0.
   * From that the caller makes ID_BLOCK ids for each partition, with blockId().
   */
  nextBlock(): MessageId {
    const ms = Math.max(Math.floor(this.now()) - EPOCH_MS, Math.max(...this.lastMs) + 1, 1)
    this.lastMs.fill(ms)
    this.counter.fill(COUNTER_MAX)
    return (BigInt(ms) << 22n) | BigInt(this.node << 8)
  }
}
