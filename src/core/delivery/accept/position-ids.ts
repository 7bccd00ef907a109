/**
 * The ids of messages from a stream of NATS publishers. The same record has the same id, whichever core takes it and
 * however often.
 *
 * A claim for each id would cost as much as the message. Records that are near each other in the stream and were stored
 * in the same second therefore share a block of ids, and only the block is claimed in the store, by the first core. One
 * second, because ids contain a time; ID_BLOCK records, because a block has as many ids for each partition (ADR 21).
 */
import { CodedError } from '../../../../protocol/errors.js'
import { blockId, ID_BLOCK, partitionOf } from '../../../../protocol/message-id.js'
import type { Clock } from '../../../clock.js'
import { evictOldest } from '../../../collections.js'
import type { IdempotencyKeys, KeyRecord } from '../../../store/idempotency.js'
import type { AcceptCommand, StreamPosition } from '../../domain/commands.js'
import type { IdSource } from '../../domain/ids.js'

const BLOCK_MS = 1_000
/** Records come nearly in order. A block that was evicted is read again. */
const BLOCKS_KNOWN_MAX = 64
/** The project of these keys. No real project has an empty id. */
const NO_PROJECT = ''

export class PositionIds {
  /** In the order of first use. */
  private readonly blocks = new Map<string, Promise<bigint>>()

  constructor(
    private readonly keys: IdempotencyKeys,
    private readonly source: { ids: IdSource; clock: Clock },
  ) {}

  /** Rejects with BrokerError or CodedError `unavailable`; then no id is known. */
  async recordOf(
    position: StreamPosition,
    { type, targets: [target], notBeforeMs }: AcceptCommand,
  ): Promise<KeyRecord> {
    if (type !== 'device' || target === undefined || notBeforeMs !== null) {
      throw new CodedError('internal', 'only an immediate message for one device has the id of its stream position')
    }
    const id = blockId(await this.blockOf(position), partitionOf(target.device), position.sequence)
    return { id, acceptedAtMs: position.storedAtMs, fingerprint: '', targets: [id], targetNames: [] }
  }

  private blockOf({ incarnation, sequence, storedAtMs }: StreamPosition): Promise<bigint> {
    const key = `ingress.${incarnation}.${Math.floor(sequence / ID_BLOCK)}.${Math.floor(storedAtMs / BLOCK_MS)}`
    const known = this.blocks.get(key)
    if (known) return known
    const claimed = this.claim(key)
    this.blocks.set(key, claimed)
    // The caller that waits gets the error. The next caller asks again.
    claimed.catch(() => this.blocks.delete(key))
    evictOldest(this.blocks, BLOCKS_KNOWN_MAX)
    return claimed
  }

  private async claim(key: string): Promise<bigint> {
    const { ids, clock } = this.source
    const mine = { id: ids.nextBlock(), acceptedAtMs: clock.now(), fingerprint: '', targets: [], targetNames: [] }
    const { record } = await this.keys.claim(NO_PROJECT, key, mine)
    return record.id
  }
}
