/**
 * The ids of messages that come from a stream: the same record has the same id, whoever takes it and however often.
 *
 * A claim for each of them would cost as much as the message. So records that stand together in the stream, and came within
 * the same second, share a block of ids, and only the block is claimed in the store, by whoever is first. A second, since
 * ids tell the time; ID_BLOCK records, since a block has so many ids of each partition (ADR 21).
 */
import { CodedError } from '../../../../protocol/errors.js'
import { blockId, ID_BLOCK, partitionOf } from '../../../../protocol/message-id.js'
import type { Clock } from '../../../clock.js'
import type { IdempotencyKeys, KeyRecord } from '../../../store/idempotency.js'
import type { AcceptCommand, StreamPosition } from '../../domain/commands.js'
import type { IdSource } from '../../domain/ids.js'

const BLOCK_MS = 1_000
/** Records come nearly in order; what is forgotten is read again. */
const BLOCKS_KNOWN_MAX = 64
/** The project of their keys: no project has this id. */
const NO_PROJECT = ''

export class PositionIds {
  /** In the order in which they were asked for. */
  private readonly blocks = new Map<string, Promise<bigint>>()

  constructor(
    private readonly keys: IdempotencyKeys,
    private readonly source: { ids: IdSource; clock: Clock },
  ) {}

  /** Rejects with BrokerError, or CodedError `unavailable`: then nothing is known. */
  async recordOf(place: StreamPosition, { type, targets: [target], notBeforeMs }: AcceptCommand): Promise<KeyRecord> {
    if (type !== 'device' || target === undefined || notBeforeMs !== null) {
      throw new CodedError('internal', 'only a message for one device, and at once, has the id of its place')
    }
    const id = blockId(await this.blockOf(place), partitionOf(target.device), place.sequence)
    return { id, acceptedAtMs: place.storedAtMs, fingerprint: '', targets: [id], names: [] }
  }

  private blockOf({ incarnation, sequence, storedAtMs }: StreamPosition): Promise<bigint> {
    const key = `ingress.${incarnation}.${Math.floor(sequence / ID_BLOCK)}.${Math.floor(storedAtMs / BLOCK_MS)}`
    const known = this.blocks.get(key)
    if (known) return known
    const claimed = this.claim(key)
    this.blocks.set(key, claimed)
    // Who waits for it hears of it; who comes later asks again.
    claimed.catch(() => this.blocks.delete(key))
    for (const oldest of this.blocks.keys()) {
      if (this.blocks.size <= BLOCKS_KNOWN_MAX) break
      this.blocks.delete(oldest)
    }
    return claimed
  }

  private async claim(key: string): Promise<bigint> {
    const { ids, clock } = this.source
    const mine = { id: ids.nextBlock(), acceptedAtMs: clock.now(), fingerprint: '', targets: [], names: [] }
    const { record } = await this.keys.claim(NO_PROJECT, key, mine)
    return record.id
  }
}
